-- A request of the gateway's own to one replica, by its address: who it was is then known of every address that nginx tells.

local resolver = require "nginx.dns.resolver"

local PORT = 8000
local NAME_SERVER = "127.0.0.11" -- Docker's own
local NAME_MILLISECONDS = 500
local CONNECT_MILLISECONDS = 1000

local replies = {
  --- Entries of dict `replicas` are renewed by every probe: what is older than this is unknown.
  KEPT_SECONDS = 15,
}

-- The address behind a service's name; or nil, and `unnamed` (the name server says at once that there is no such container)
-- or `unreachable` (it says nothing: its daemon may be restarting).
local function resolve(replica)
  local asking = resolver:new({nameservers = {NAME_SERVER}, retrans = 1, timeout = NAME_MILLISECONDS, no_recurse = false})
  local answers = asking and asking:query(replica, {qtype = resolver.TYPE_A})
  if not answers then
    return nil, "unreachable"
  elseif answers.errcode then
    return nil, answers.errcode == 3 and "unnamed" or "unreachable"
  end
  for _, answer in ipairs(answers) do
    if answer.address then
      return answer.address
    end
  end
  return nil, "unnamed"
end

local function request_of(replica, asked)
  local lines = {
    (asked.body and "POST " or "GET ") .. asked.path .. " HTTP/1.0",
    "Host: " .. replica,
    "X-Request-Id: vllmstack-health",
    "Content-Type: application/json",
    "Content-Length: " .. #(asked.body or ""),
    "",
    asked.body or "",
  }
  return table.concat(lines, "\r\n")
end

-- Its status and body on a connection of its own: whether the replica takes new ones is asked, too.
local function exchange(socket, address, replica, asked)
  socket:settimeouts(CONNECT_MILLISECONDS, CONNECT_MILLISECONDS, asked.seconds * 1000)
  local ok, problem = socket:connect(address, PORT)
  ok = ok and socket:send(request_of(replica, asked))
  if not ok then
    return nil, problem == "timeout" and "silent" or "refused"
  end
  local line
  line, problem = socket:receive("*l")
  local status = line and tonumber(line:match("^HTTP/%d%.%d (%d%d%d)"))
  if not status then
    return nil, problem == "timeout" and "silent" or "refused"
  end
  repeat
    line = socket:receive("*l")
  until not line or line == ""
  return status, line and socket:receive("*a") or ""
end

--- Asks for {path, body, seconds}: a POST where there is a body. Its status and body; or nil, and why not: `refused`, `silent`
-- (for longer than `seconds`, or a second to connect), `unnamed` or `unreachable`.
function replies.ask(replica, asked)
  local address, why = resolve(replica)
  if not address then
    return nil, why
  end
  ngx.shared.replicas:set("address " .. address .. ":" .. PORT, replica, replies.KEPT_SECONDS)
  local socket = ngx.socket.tcp()
  local status, text = exchange(socket, address, replica, asked)
  socket:close()
  return status, text
end

return replies
