-- Files that are read whole.

local files = {}

--- The bytes of a file. Raises where it cannot be read.
function files.read(name)
  local file = assert(io.open(name))
  local text = file:read("*a")
  file:close()
  return text
end

return files
