"""The watch: notices writes to sealed images, finds out who and what is hit, and reads everything again now and then."""
