"""The suites that are run, what Glance passes of each, and why what is skipped is skipped."""

from __future__ import annotations

from dataclasses import dataclass

_SDK, _CLIENT, _GLANCECLIENT = "openstack.tests.functional", "openstackclient.tests.functional", "glanceclient.tests.functional"


@dataclass(frozen=True)
class Suite:
    """Tests of installed packages by their names.

    `passing`: how many pass on Glance. `enforced`: whether the service refuses bytes that are not of the format they claim.
    """

    name: str
    tests: tuple[str, ...]
    passing: int
    enforced: bool = True


SUITES = (
    Suite("tempest", ("tempest.api.image.v2",), 73),
    Suite("tempest-unenforced", ("tempest.api.image.v2.test_images.ListUserImagesTest",), 17, enforced=False),
    Suite("plugin", ("glance_tempest_plugin.tests",), 186),
    Suite("sdk", (f"{_SDK}.image.v2", f"{_SDK}.cloud.test_image"), 30),
    Suite("openstackclient", (f"{_CLIENT}.image.v2",), 13),
    Suite("glanceclient", (f"{_GLANCECLIENT}.v2",), 7),
)

# A part of the reason that a test gives for being skipped, and why that is right here. Glance skips the same nine.
EXPLAINED = {
    "No image_remote service to test": "It needs a second worker that is known under an address of its own.",
    "https://launchpad.net/bugs/2030527": "tempest skips it itself until that bug of its own is resolved.",
    "do_secure_hash is enabled": "It is for services that do not hash what a location refers to; this one does.",
    "Image format enforcement prevents": "It uploads bytes of no format; tempest-unenforced runs it where that is allowed.",
    "Nova is not available": "It boots machines: there is no compute service here.",
}


def explanation(reason: str) -> str | None:
    """Returns why a skip with this reason is right, None if nobody has said so."""
    return next((why for part, why in EXPLAINED.items() if part in reason), None)
