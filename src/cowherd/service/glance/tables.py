"""The tables of Glance's database, with the columns that are read of them, as they have been since Rocky (2018)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, MetaData, Table, Text

_metadata = MetaData()


def _table(name: str, *columns: Column[Any]) -> Table:
    times = (Column("created_at", DateTime), Column("updated_at", DateTime))
    return Table(name, _metadata, *columns, *times)


def _texts(*names: str) -> tuple[Column[str], ...]:
    return tuple(Column(name, Text) for name in names)


def _numbers(*names: str) -> tuple[Column[int], ...]:
    return tuple(Column(name, BigInteger) for name in names)


def _flags(*names: str) -> tuple[Column[bool], ...]:
    return tuple(Column(name, Boolean) for name in names)


images = _table(
    "images",
    *_texts("id", "name", "status", "visibility", "owner", "disk_format", "container_format"),
    *_texts("checksum", "os_hash_algo", "os_hash_value"),
    *_numbers("size", "virtual_size", "min_disk", "min_ram"),
    *_flags("protected", "os_hidden", "deleted"),
)
image_properties = _table("image_properties", *_texts("image_id", "name", "value"), *_flags("deleted"))
image_tags = _table("image_tags", *_texts("image_id", "value"), *_flags("deleted"))
image_members = _table("image_members", *_texts("image_id", "member", "status"), *_flags("deleted"))
image_locations = _table(
    "image_locations", Column("id", Integer), *_texts("image_id", "value", "meta_data", "status"), *_flags("deleted")
)

namespaces = _table(
    "metadef_namespaces",
    Column("id", Integer),
    *_texts("namespace", "display_name", "description", "visibility", "owner"),
    *_flags("protected"),
)
objects = _table("metadef_objects", Column("namespace_id", Integer), *_texts("name", "description", "required", "json_schema"))
properties = _table("metadef_properties", Column("namespace_id", Integer), *_texts("name", "json_schema"))
tags = _table("metadef_tags", Column("namespace_id", Integer), *_texts("name"))
resource_types = _table("metadef_resource_types", Column("id", Integer), *_texts("name"))
associations = _table(
    "metadef_namespace_resource_types",
    Column("namespace_id", Integer),
    Column("resource_type_id", Integer),
    *_texts("prefix", "properties_target"),
)
