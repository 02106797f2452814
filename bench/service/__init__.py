"""The image service beside a real Glance: `python -m bench.service`, or `make bench ARGS="--job service"`."""
