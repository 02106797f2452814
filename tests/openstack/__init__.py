"""The image service against OpenStack's own suites and clients, and against Glance: `make openstack`."""
