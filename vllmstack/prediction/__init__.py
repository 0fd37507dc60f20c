"""What a deployment will do under a load: step times from a roofline, replicas simulated, targets judged. No I/O."""
