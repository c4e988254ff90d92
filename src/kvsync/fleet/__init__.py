"""Who is there: the pods, their addresses and the models they serve."""
