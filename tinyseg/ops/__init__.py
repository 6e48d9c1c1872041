"""Every operator by name; importing it gives Tensor its operators."""
