"""One backend each: only what differs, and the map of its vendor's errors."""
