-- Lets the upgrade that waits go on: the revision that its preflight has checked, and no other.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
local upgrade = obj.status.upgrade
obj.metadata.annotations["millstream.dev/approve"] = upgrade.approval or upgrade.to
return obj
