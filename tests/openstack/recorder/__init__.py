"""The same requests asked of Glance and of cowherd: status, headers, keys, types and values of the answers are compared."""
