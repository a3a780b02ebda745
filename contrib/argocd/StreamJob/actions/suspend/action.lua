-- Stops the job with a savepoint and removes its pods.
obj.spec.state = "Suspended"
return obj
