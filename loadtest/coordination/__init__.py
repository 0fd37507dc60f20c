"""One run over one or many processes: the leader plans and judges, senders send and observe."""
