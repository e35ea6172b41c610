"""What commands read: policies, logs, keys and filters named on the command line."""
