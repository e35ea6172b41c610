"""What commands that change something share: questions, confirmations and waiting."""
