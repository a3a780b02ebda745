-- Takes a savepoint. It has no owner, as it must outlive the job.
local savepoint = {
  apiVersion = "millstream.dev/v1alpha1",
  kind = "StreamSavepoint",
  metadata = {
    name = obj.metadata.name .. "-" .. os.date("!%Y%m%d%H%M%S"),
    namespace = obj.metadata.namespace,
  },
  spec = {jobRef = {name = obj.metadata.name}},
}
return {{operation = "create", resource = savepoint}}
