"""QEMU's command line options by what their arguments name, including those of other targets and of older versions.

Source: QEMU 10's qemu-options.hx. An option that is not listed here is not understood: it may name a file.
"""

from __future__ import annotations

from cowherd.live.machine.options import names

WITHOUT_ARGUMENT = names(
    "h help version snapshot S s nographic daemonize enable-kvm no-reboot no-shutdown no-user-config nodefaults "
    "mem-prealloc only-migratable preconfig usb full-screen win2k-hack no-fd-bootchk xen-attach xen-domid-restrict "
    "enable-sync-profile perfmap jitdump semihosting old-param singlestep no-acpi no-hpet no-quit no-frame alt-grab "
    "ctrl-grab curses sdl portrait localtime no-kvm no-kvm-irqchip no-kvm-pit no-kvm-pit-reinjection rtc-td-hack tdf "
    "nodefconfig async-teardown enable-fips show-cursor enable-hax xen-create hax"
)
"""Options without an argument; the word after any other option is its argument."""

NAME_NOTHING = WITHOUT_ARGUMENT - {"semihosting", "snapshot"} | names(
    "accel action append audio-help balloon clock compat cpu d dfilter echr g icount-help iscsi k L loadvm m mon msg name numa "
    "overcommit prom-env qtest-help realtime rotate rtc run-with runas chroot sandbox seed smp soundhw tb-size uuid vga vnc "
    "watchdog watchdog-action xen-domid display spice"
)
"""Options whose arguments name no file that a guest or QEMU would read as a disk or write to."""

DRIVES = {
    **dict.fromkeys(("hda", "hdb", "hdc", "hdd"), "disk"),
    **dict.fromkeys(("fda", "fdb", "mtdblock", "sd", "pflash"), "disk"),
    "cdrom": "cdrom",
}
"""Options whose argument is a disk's file, with the `media` that -drive has for such a disk."""

READ = frozenset(("kernel", "initrd", "dtb", "bios", "shim"))
WRITTEN = frozenset(("D", "dump-vmstate", "pidfile", "writeconfig", "qtest-log"))
MEMORY = frozenset(("mem-path",))
CHARACTERS = names("serial parallel monitor qmp qmp-pretty debugcon gdb virtioconsole qtest")
"""Options whose argument is a character device in the short form, as `file:log`."""

GROUPS = {
    "drive": None,
    "device": "driver",
    "chardev": "backend",
    "object": "qom-type",
    "netdev": "type",
    "nic": "type",
    "net": "type",
    "fsdev": "fsdriver",
    "virtfs": "fsdriver",
    "fw_cfg": "name",
    "acpitable": None,
    "smbios": None,
    "machine": "type",
    "global": None,
    "audiodev": "driver",
    "audio": "driver",
    "tpmdev": "type",
    "icount": "shift",
    "trace": "enable",
    "plugin": "file",
    "boot": "order",
    "option-rom": "romfile",
    "blockdev": "driver",
    "add-fd": None,
    "semihosting-config": None,
}
"""Options whose argument is `key=value,...`, and the key of a first word without one."""
ALIASES = {"M": "machine"}

SECTIONS = {"acpi": "acpitable", "boot-opts": "boot"}
"""Sections of a -readconfig file (and groups of -set) that have another name than their option."""
SECTIONS_THAT_NAME_NOTHING = names("memory smp-opts numa rtc mon name msg overcommit accel action sandbox compat iscsi")


READS, WRITES, RAM, SHARES, PLAIN_WORD = "reads", "writes", "ram", "shares", "names nothing"
"""The uses of a file that a setting names: it is read, written, the guest's memory, or a directory that the guest sees."""

_WORDS = dict.fromkeys(
    names(
        "id bus addr serial name mac macaddr model model-id vendor type driver chardev netdev fsdev tpmdev audiodev iothread "
        "memdev display mount_tag product version loadparm wwn uuid guid property"
    ),
    PLAIN_WORD,
)
SETTINGS: dict[str, dict[str, str]] = {
    "device": {
        **dict.fromkeys(names("romfile file kernel initrd dtb sdrfile frudatafile cdat jsonfile"), READS),
        "pcap": WRITES,
        "rootdir": SHARES,
    },
    "object": {
        **dict.fromkeys(names("file filename dh-cert-file session-file id-block id-auth"), READS),
        "mem-path": RAM,
        "log": WRITES,
        "dir": PLAIN_WORD,
    },
    "chardev": {"path": WRITES, "input-path": READS, "logfile": WRITES},
    "netdev": {"smb": SHARES, "tftp": SHARES, "file": WRITES}
    | dict.fromkeys(names("bootfile script downscript helper sock path"), PLAIN_WORD),
    "fsdev": {"path": SHARES, "socket": PLAIN_WORD},
    "fw_cfg": {"file": READS, "string": PLAIN_WORD},
    "acpitable": {"file": READS, "data": READS},
    "smbios": {"file": READS, "path": READS},
    "machine": {**dict.fromkeys(("firmware", "kernel", "initrd", "dtb", "shim"), READS), "dumpdtb": WRITES, "append": PLAIN_WORD},
    "audiodev": {"path": WRITES},
    "tpmdev": {"path": WRITES, "cancel-path": PLAIN_WORD},
    "icount": {"rrfile": WRITES, "rrsnapshot": PLAIN_WORD},
    "trace": {"file": WRITES, "events": READS, "enable": PLAIN_WORD},
    "plugin": {"file": PLAIN_WORD},
    "boot": {"splash": READS, "order": PLAIN_WORD},
    "option-rom": {"romfile": READS},
}
"""The uses of files that the settings of each group name. Values of other settings, but for `_WORDS`, are compared with the files
that exist."""
for _same, _other in (("nic", "netdev"), ("net", "netdev"), ("virtfs", "fsdev"), ("audio", "audiodev")):
    SETTINGS[_same] = SETTINGS[_other]


def meaning(group: str, key: str) -> str | None:
    """Returns the use of the file that a setting of a group names, None if that is not known."""
    return SETTINGS.get(group, {}).get(key) or _WORDS.get(key)


OF_A_DRIVE = names(
    "if index bus unit media cache aio format snapshot id werror rerror serial addr boot cyls heads secs trans copy-on-read "
    "readonly group iops bps iops_rd iops_wr bps_rd bps_wr iops_max iops_rd_max iops_wr_max bps_max bps_rd_max bps_wr_max "
    "iops_size stats-account-invalid stats-account-failed"
)
"""-drive's own options, which are not options of the block node that it opens."""
OF_A_DRIVE_BEGIN = ("throttling.", "stats-intervals.")
