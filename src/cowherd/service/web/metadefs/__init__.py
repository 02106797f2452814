"""The vocabulary for properties: namespaces, with the objects, properties, tags and resource types that they define."""
