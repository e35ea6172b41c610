"""What a decision costs: ratectl, other libraries and floors, each as the body of one loop."""
