"""Tables to tensors: a transform fitted on the training split, and the store it compiles."""
