"""The gateway's Lua: every file compiles, and reads and writes no global that nobody else defines."""

from pathlib import Path

import pytest
from lupa.luajit21 import LuaRuntime, LuaSyntaxError

FILES = sorted((Path(__file__).parents[3] / "docker/gateway/lua").glob("*.lua"))

GLOBALS = LuaRuntime().execute("""
local util = require "jit.util"

-- Names of globals in a function and the functions in it, by the opcode that a piece of code compiles to first.
local function opcode(code)
  return util.funcbc(loadstring(code), 1) % 256
end
local get, set = opcode("return x"), util.funcbc(loadstring("x = 1"), 2) % 256

local function visit(func, found)
  local pc = 1
  local instruction = util.funcbc(func, pc)
  while instruction do
    local operation = instruction % 256
    if operation == get or operation == set then
      local name = util.funck(func, -math.floor(instruction / 65536) - 1)
      found[name] = (found[name] or "") .. (operation == set and "w" or "r")
    end
    pc = pc + 1
    instruction = util.funcbc(func, pc)
  end
  local index = -1
  local constant = util.funck(func, index)
  while constant do
    if type(constant) == "proto" then
      visit(constant, found)
    end
    index = index - 1
    constant = util.funck(func, index)
  end
  return found
end

return function(code, name)
  return visit(assert(loadstring(code, "=" .. name)), {})
end
""")

KNOWN = {
    "assert", "collectgarbage", "getmetatable", "io", "ipairs", "math", "next", "ngx", "pairs", "pcall", "require",
    "select", "setmetatable", "table", "tonumber", "tostring", "type", "unpack",
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_compiles_and_knows_its_globals(file: Path) -> None:
    found = dict(GLOBALS(file.read_text(), file.name))
    assert {name: how for name, how in found.items() if "w" in how or name not in KNOWN} == {}


def test_a_mistake_would_be_found() -> None:
    assert dict(GLOBALS("local function f() lenght = 1; return widht end", "it")) == {"lenght": "w", "widht": "r"}
    with pytest.raises(LuaSyntaxError):
        LuaRuntime().execute("local function (")


def test_there_are_files() -> None:
    assert len(FILES) > 20
