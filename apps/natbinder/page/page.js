/** What the page shows is what natbinder says, once a second at most; nothing is asked for again. */
const facts = document.querySelector("#facts");
const ports = document.querySelector("#ports");
const empty = document.querySelector("#empty");
const state = document.querySelector("#state");

const SEEN = {
  module: "all programs, by the kernel module",
  cgroup: "all programs, by eBPF",
  sockets: "all programs, by the list of sockets",
};

/** An element with a text, which is never taken for anything else. */
function element(name, text, className = "") {
  const one = document.createElement(name);
  one.textContent = text;
  one.className = className;
  return one;
}

function showFacts({ gateway, systemWide, diskTrouble, version, ports: all }) {
  const cut = all.find(({ reachable }) => reachable?.reason === "another-nat")?.reachable;
  const rows = [
    ["Gateway", gateway ? `${gateway.address} (${gateway.kind})` : "none answers: programs run as ever", !gateway],
    ["Address to the world", gateway?.externalAddress ?? "unknown", false],
    ...(cut ? [["Not reachable", cut.message, true]] : []),
    ["Binds are seen of", SEEN[systemWide?.source] ?? "programs under natbinder run", false],
    ...(systemWide?.trouble ? [["", systemWide.trouble, true]] : []),
    ...(diskTrouble ? [["Not on disk", diskTrouble, true]] : []),
    ["Version", version, false],
  ];
  facts.replaceChildren(
    ...rows.flatMap(([name, text, isTrouble]) => [
      element("dt", name),
      element("dd", text, isTrouble ? "trouble" : ""),
    ]),
  );
}

/** Whether the world gets through, with the whole sentence for whoever points at it. */
function reachCell(reachable) {
  if (!reachable) return element("td", "");
  const { state: how, reason, message } = reachable;
  const cell = element("td", how === "yes" ? "yes" : `${how} (${reason})`, `reach-${how}`);
  cell.title = message;
  return cell;
}

function rowsOf({ gateway }, { protocol, port, state: how, reason, reachable, leaseLeftS, owners }) {
  const address = how === "mapped" && gateway?.externalAddress ? `${gateway.externalAddress}:${port}` : "";
  const head = [[`${port}/${protocol}`], [reason ? `${how} (${reason})` : how, how], [address]];
  const lease = leaseLeftS === undefined ? "" : `${Math.floor(leaseLeftS / 60)} min ${leaseLeftS % 60} s`;
  const nobody = [{ program: "", pid: "", uid: "", since: undefined, byAdmin: false }];
  return (owners.length > 0 ? owners : nobody).map(({ program, pid, uid, since, byAdmin }) => {
    const row = document.createElement("tr");
    const cells = [
      [byAdmin ? "by hand" : program],
      [byAdmin ? "" : String(pid)],
      [byAdmin ? "" : String(uid)],
      [lease],
      [since ? new Date(since).toLocaleString() : ""],
    ];
    const elements = (texts) => texts.map(([text, className]) => element("td", text, className));
    row.append(...elements(head), reachCell(reachable), ...elements(cells));
    return row;
  });
}

function show(status) {
  showFacts(status);
  const sorted = status.ports.toSorted((a, b) => a.port - b.port || a.protocol.localeCompare(b.protocol));
  ports.replaceChildren(...sorted.flatMap((port) => rowsOf(status, port)));
  empty.hidden = sorted.length > 0;
  state.textContent = "live";
  state.className = "";
}

const events = new EventSource("events");
events.addEventListener("message", ({ data }) => show(JSON.parse(data)));
events.addEventListener("error", () => {
  state.textContent = "natbinder does not answer: what is below is old";
  state.className = "lost";
});
