"""The service killed before and after every call that changes its store or its database, in each of its jobs."""
