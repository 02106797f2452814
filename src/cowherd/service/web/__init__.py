"""The routes: the image API, the API of our own, the page and the metrics."""
