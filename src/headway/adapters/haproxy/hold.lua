-- The head of a backend's queue waits here until a replica can be reached. See waiting.py for how it gets here.
--
-- Written by Headway; changes are lost. Argument: the Unix socket that is told how many requests wait.
--
-- The state is shared by all threads (lua-load): one request per version waits here at a time, so the lock costs nothing.

local teller_socket = ...
local POLL_MS = 5        -- between looks for a replica
local TELL_MS = 20       -- between looks at what to tell
local REPEAT_MS = 200    -- a count that only changed is told this often at most
local RETRY_MS = 500     -- between tries to reach the one who wants to know
local LOST_MS = 1000     -- a head that has not looked for this long is gone

local holds = Map.new("holds.map", Map._str)
local routes = Map.new("routes.map", Map._str)
local waiting = {}       -- model/version -> {backend, head, seen}
local telling = false
local heads = 0

local function now_ms()
    local now = core.now()
    return now.sec * 1000 + now.usec // 1000
end

local function is_true(value)
    return value == true or value == 1
end

-- How many requests wait for a replica of the version, the head included.
local function count(entry, now)
    local backend = core.backends[entry.backend]
    local stats = backend and backend:get_stats()
    if not stats or stats.act > 0 then
        return 0
    end
    return stats.qcur + (now - entry.seen < LOST_MS and 1 or 0)
end

-- One line: "iris/v1 3 wine/v2 1". Versions for which nobody waits any more are forgotten.
local function line(now)
    local words, keys = {}, {}
    for key, entry in pairs(waiting) do
        local number = count(entry, now)
        if number > 0 then
            words[#words + 1] = key .. " " .. number
            keys[key] = true
        end
    end
    for key in pairs(waiting) do
        if not keys[key] and now - waiting[key].seen >= LOST_MS then
            waiting[key] = nil
        end
    end
    table.sort(words)
    return table.concat(words, " "), keys
end

local function connect()
    local socket = core.tcp()
    socket:settimeout(1)
    if socket:connect("unix@" .. teller_socket) then
        return socket
    end
    socket:close()
    return nil
end

-- Tells while anybody waits, then ends. The connection stands for this process: when it closes, nobody waits here.
local function tell()
    local socket, said, said_at, tried_at, known = nil, "", 0, 0, {}
    while next(waiting) do
        local now = now_ms()
        local text, keys = line(now)
        local begun = false
        for key in pairs(keys) do
            begun = begun or not known[key]
        end
        if not socket and now - tried_at >= RETRY_MS then
            tried_at, said, said_at = now, "", 0
            socket = connect()
        end
        local pause = text ~= said and REPEAT_MS or RETRY_MS -- repeated also to notice that nobody listens any more
        if socket and (begun or now - said_at >= pause) then
            if (socket:send(text .. "\n") or -1) > 0 then
                said, said_at, known = text, now, keys
            else
                socket:close()
                socket = nil
            end
        end
        core.msleep(TELL_MS)
    end
    telling = false
    if socket then
        socket:close()
    end
end

local function end_with(txn, how)
    txn:set_var("txn.hold", how)
    return act.CONTINUE
end

core.register_action("hold", { "http-req" }, function(txn)
    local now = now_ms()
    local key = txn:get_var("txn.route")
    local since = txn:get_var("txn.since")
    if not since then
        since = now
        txn:set_var("txn.since", since)
    end
    txn:set_var("txn.waited", math.max(0, now - since))
    local name = routes:lookup(key)
    local backend = name and core.backends[name]
    local hold_ms = tonumber(holds:lookup(key))
    if not backend or not hold_ms then
        return end_with(txn, "none")
    end
    if backend:get_stats().act > 0 then
        return end_with(txn, "go")
    end
    if now - since >= hold_ms then
        return end_with(txn, "late")
    end
    if is_true(txn.f:stopping()) then
        -- The one that took over knows the replicas that come. All that still queue here may follow at once.
        local server = backend.servers["waiting"]
        if server then
            server:set_maxconn("10000")
        end
        return end_with(txn, "moved")
    end
    local entry = waiting[key]
    if not entry then
        entry = {}
        waiting[key] = entry
    end
    local mine = txn:get_var("txn.head")
    if not mine then
        heads = heads + 1
        mine = heads
        txn:set_var("txn.head", mine)
        entry.head = mine
    end
    if entry.head ~= mine or not txn.req:may_recv() then
        return act.ABORT -- its client has left, and the next one has taken its place
    end
    entry.backend, entry.seen = name, now
    if not telling then
        telling = true
        core.register_task(tell)
    end
    act.wake_time(POLL_MS)
    return act.YIELD
end, 0)
