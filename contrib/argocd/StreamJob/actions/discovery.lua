-- Which actions a person may take on a StreamJob now.

local status = obj.status or {}
local suspended = obj.spec.state == "Suspended"
local waiting = status.upgrade ~= nil and status.upgrade.step == "WaitingForApproval"
local running = false
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" and condition.status == "True" then
    running = true
  end
end

return {
  suspend = {disabled = suspended, iconClass = "fa fa-fw fa-pause"},
  resume = {disabled = not suspended, iconClass = "fa fa-fw fa-play"},
  restart = {disabled = suspended, iconClass = "fa fa-fw fa-redo"},
  approve = {disabled = not waiting, iconClass = "fa fa-fw fa-check"},
  savepoint = {disabled = not running, iconClass = "fa fa-fw fa-save"},
}
