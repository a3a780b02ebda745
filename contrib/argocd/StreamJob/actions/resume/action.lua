-- Starts a suspended job from the state that it was stopped with.
obj.spec.state = "Running"
return obj
