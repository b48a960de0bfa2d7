package tcp

// Endpoints are not saved, nor made from what was saved.
