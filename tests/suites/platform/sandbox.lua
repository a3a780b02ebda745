-- Runs a script as Argo CD does: with the base and table libraries, os.time and os.date, and
-- nothing else. The script is the first argument, the second a file that returns the resource.
-- What the script returns is printed as JSON. The time is always the same.

local NOW = 1795523696 -- 2026-11-24T12:34:56Z
debug.setmetatable("", nil) -- no string methods either

local encode

local function text(value)
  return '"' .. string.gsub(value, '[%c"\\]', function(character)
    return string.format("\\u%04x", string.byte(character))
  end) .. '"'
end

local function list(value)
  local parts = {}
  for _, item in ipairs(value) do
    parts[#parts + 1] = encode(item)
  end
  return "[" .. table.concat(parts, ",") .. "]"
end

local function object(value)
  local parts = {}
  for key, item in pairs(value) do
    parts[#parts + 1] = text(key) .. ":" .. encode(item)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode(value)
  if type(value) == "string" then
    return text(value)
  elseif type(value) ~= "table" then
    return tostring(value)
  elseif #value > 0 then
    return list(value)
  end
  return object(value)
end

local environment = {
  assert = assert,
  error = error,
  ipairs = ipairs,
  next = next,
  obj = dofile(arg[2]),
  os = {
    date = function(format, time)
      return os.date(format, time or NOW)
    end,
    time = function()
      return NOW
    end,
  },
  pairs = pairs,
  pcall = pcall,
  select = select,
  table = {concat = table.concat, insert = table.insert, remove = table.remove, sort = table.sort},
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  unpack = table.unpack,
}

local script = assert(loadfile(arg[1], "t", environment))
print(encode(script()))
