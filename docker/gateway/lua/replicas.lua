-- Addresses and the services behind them (dict `replicas`, written by probes.lua). nginx lists what it tried as "a, b : c";
-- almost always it is one.

local dict = ngx.shared.replicas

local replicas = {}

-- The service behind an address, or nil: nginx writes the pool's name where it found no server to try.
local function service(address)
  return dict:get("address " .. address) or (address:find("^[0-9]") and "unknown") or nil
end

--- The services that were tried, in order.
function replicas.tried(addresses)
  local found = {}
  for address in (addresses or ""):gmatch("[^, ]+") do
    found[#found + 1] = address ~= ":" and service(address) or nil
  end
  return found
end

--- Whether nginx tried a single server: the one that was chosen.
function replicas.one(addresses)
  return addresses and addresses:byte() <= 57 and not addresses:find(" ", 1, true)
end

return replicas
