"""What happens to whole sessions and stores: bringing them in, writing them out, keeping and ending them."""
