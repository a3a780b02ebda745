-- Restarts the job once, as an upgrade without a change.
obj.spec.restartAt = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
