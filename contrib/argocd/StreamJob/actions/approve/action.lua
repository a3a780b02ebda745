-- Lets the upgrade that waits go on: the revision that its preflight has checked, and no other.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["millstream.dev/approve"] = obj.status.upgrade.to
return obj
