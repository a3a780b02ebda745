-- Health of a StreamJob. Argo CD gives the resource as `obj`; neither the string library nor
-- anything outside is there.

local status = obj.status or {}
local spec = obj.spec or {}

local function condition(name)
  for _, candidate in ipairs(status.conditions or {}) do
    if candidate.type == name then
      return candidate
    end
  end
  return {status = "Unknown", reason = "", message = ""}
end

local function is(name, value)
  return condition(name).status == value
end

local function health(name, message)
  return {status = name, message = message}
end

-- The message of a condition, its reason, or what is said where neither is there.
local function words(name, otherwise)
  local found = condition(name)
  if found.message ~= nil and found.message ~= "" then
    return found.message
  end
  if found.reason ~= nil and found.reason ~= "" then
    return found.reason
  end
  return otherwise
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "The job is being deleted")
end
if status.observedGeneration == nil or status.conditions == nil then
  return health("Progressing", "Waiting for the operator")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "Waiting for the operator to see the change")
end

-- What a person has to look at comes first, also when the job still runs an older revision.
if is("Stalled", "True") then
  return health("Degraded", words("Stalled", "The operator cannot go on"))
end
if is("Valid", "False") then
  return health("Degraded", words("Valid", "The spec has faults"))
end
if is("RolledBack", "True") then
  return health("Degraded", words("RolledBack", "The job was rolled back"))
end
if is("Audit", "False") then
  return health("Degraded", words("Audit", "The records do not add up"))
end

-- What waits for a person, on purpose.
if is("Suspended", "True") then
  return health("Suspended", words("Suspended", "The job is suspended"))
end
if status.upgrade ~= nil and status.upgrade.step == "WaitingForApproval" then
  return health("Suspended", words("Reconciling", "The upgrade waits for approval"))
end
if spec.paused == true then
  return health("Suspended", "The operator leaves the job as it is: spec.paused is set")
end

if is("Completed", "True") then
  return health("Healthy", words("Completed", "The job is complete"))
end
if is("Reconciling", "True") then
  return health("Progressing", words("Reconciling", "The operator works towards the spec"))
end
if not is("Ready", "True") then
  return health("Progressing", words("Ready", "The job is not ready"))
end
-- Nothing becomes visible without checkpoints, however well the tasks run.
if is("CheckpointHealthy", "False") then
  return health("Degraded", words("CheckpointHealthy", "Checkpoints do not complete"))
end
return health("Healthy", words("Ready", "The job is ready"))
