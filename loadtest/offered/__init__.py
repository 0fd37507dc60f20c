"""When requests are sent: arrival schedules, traces, and the open-loop dispatcher."""
