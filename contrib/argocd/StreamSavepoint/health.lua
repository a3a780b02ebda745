-- Health of a StreamSavepoint. Argo CD gives the resource as `obj`.

local status = obj.status or {}
local state = status.state or "Pending"
local message = status.message

if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "The savepoint is being deleted"}
end
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "Waiting for the operator"}
end
if state == "Completed" then
  return {status = "Healthy", message = status.path or "The savepoint is complete"}
end
if state == "Failed" or state == "Abandoned" then
  return {status = "Degraded", message = message or state}
end
return {status = "Progressing", message = message or state}
