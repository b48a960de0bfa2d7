// The functions without a body are pushed here by the runtime's overlay.
