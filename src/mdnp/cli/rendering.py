"""Tables without borders, and details by name. Lines that are not data begin with `# `."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHORT = 12  # Docker's own length for ids in tables


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def networks(views: Iterable[Mapping[str, Any]], drift: bool = False) -> str:
    heads = ["NETWORK", "NAME", "KIND", "BRIDGE", "SUBNETS", "MTU", "GATEWAY", "ENDPOINTS"] + ["DRIFT"] * drift
    rows = [
        [
            one["id"][:SHORT],
            one["name"] or "-",
            one["kind"],
            one["bridge"],
            ",".join(subnet["pool"] for subnet in one["subnets"]) or "-",
            one["mtu"],
            "internal" if one["internal"] else one["gateway"],
            one["endpoints"],
            *([one["drift"] or "-"] if drift else ()),
        ]
        for one in views
    ]
    return table(heads, rows)


def endpoints(views: Iterable[Mapping[str, Any]]) -> str:
    heads = ["ENDPOINT", "CONTAINER", "NETWORK", "ADDRESSES", "MAC", "PHASE", "LINK"]
    rows = [
        [
            one["id"][:SHORT],
            one["container"] or "-",
            one["network_name"] or one["network"][:SHORT],
            ",".join(one["addresses"]) or "-",
            one["mac"],
            one["phase"],
            one["host_end"],
        ]
        for one in views
    ]
    return table(heads, rows)


def ports(views: Iterable[Mapping[str, Any]]) -> str:
    heads = ["CONTAINER", "ENDPOINT", "HOST", "TO", "BY"]
    rows = [
        [
            one["container"] or "-",
            one["endpoint"][:SHORT],
            f"{_socket(one['host_address'], one['host_port'])}/{one['protocol']}" if one["host_port"] else "-",
            f"{_socket(one['address'], one['port'])}/{one['protocol']}",
            one["by"],
        ]
        for one in views
    ]
    return table(heads, rows) if rows else "# no port is published"


def _socket(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def hosts(views: Iterable[Mapping[str, Any]]) -> str:
    views = list(views)
    heads = ["HOST", "ID", "VTEP", "STATE", "SEGMENTS", "ENDPOINTS", "BLOCKS"]
    rows = [
        [
            one["name"],
            one["id"],
            one["vtep"],
            one["liveness"],
            len(one["segments"]),
            one["endpoints"],
            len(one["blocks"]),
        ]
        for one in views
    ]
    return "\n".join([table(heads, rows), *(f"# this is {one['name']}" for one in views if one["here"])])


def pools(views: Iterable[Mapping[str, Any]]) -> str:
    """Where pools are shared with other hosts, how many blocks this one has of them."""
    heads = ["POOL", "RANGE", "NETWORKS", "SIZE", "USED", "RESERVED", "RESTING", "FREE"]
    keys = ["pool", "sub_pool", "networks", "size", "used", "reserved", "resting", "free"]
    views = list(views)
    if any("blocks" in one for one in views):
        heads, keys = [*heads, "BLOCKS"], [*keys, "blocks"]
        views = [{**one, "blocks": len(one["blocks"]) if "blocks" in one else None} for one in views]
    full = [
        f"# {one['pool']} is nearly full: make a larger network, or `mdnp gc`" for one in views if one["nearly_full"]
    ]
    return "\n".join([table(heads, [["-" if one[key] is None else one[key] for key in keys] for one in views]), *full])


def pool(view: Mapping[str, Any]) -> str:
    rows = [
        [one["address"], one["kind"], one["name"] or "-", (one["endpoint"] or "-")[:SHORT], one["since"]]
        for one in view["addresses"]
    ]
    facts = {key: value for key, value in view.items() if key != "addresses"}
    return f"{details(facts)}\n\n{table(['ADDRESS', 'KIND', 'NAME', 'ENDPOINT', 'SINCE'], rows)}"


def history(views: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [one["address"], one["kind"], one["name"] or "-", one["since"], one["until"] or "now", one["pool"]]
        for one in views
    ]
    if not rows:
        return "# nothing is known of it: the history has addresses, and names where Docker told them"
    return table(["ADDRESS", "KIND", "NAME", "SINCE", "UNTIL", "POOL"], rows)


def orphans(views: Iterable[Mapping[str, Any]], done: str) -> str:
    lines = [
        f"{done} {one['kind']} {one['name']}" + (f" of {one['of']}" if one["of"] else "") + f", since {one['since']}"
        for one in views
    ]
    return "\n".join(lines or ["# Docker has all that was promised to it"])


def status(view: Mapping[str, Any]) -> str:
    """The networks, what is wrong and what to do, and how all that mdnp stands on is."""
    lines = [networks(view["networks"], drift=True)] if view["networks"] else ["# no networks yet"]
    lines += [f"# drift: {step}" for step in view["drift"]]
    if view["drift"] and view["trouble"]:
        lines.append(f"# because: {view['trouble']}")
    lines += [f"# lost: {one}: restart its container" for one in view["lost"]]
    lines += [f"# pool {one} is nearly full: `mdnp pool inspect` shows who holds it" for one in view["nearly_full"]]
    if view["orphans"]:
        lines.append(f"# {len(view['orphans'])} things that Docker does not have: see `mdnp gc --plan`")
    if view["repaired"]:
        lines.append(f"# repaired {view['repaired']} things that others had changed")
    if view["store"]["trouble"]:
        lines.append(f"# promises cannot be kept: {view['store']['trouble']}")
    lines += _cluster(view["cluster"]) if "cluster" in view else []
    lines += _names(view["names"]) if "names" in view else []
    docker = view["docker"]
    lines.append(f"# Docker {docker['version']}" if docker["version"] else f"# {docker['trouble']}")
    in_sync = view.get("in_sync", view["healthy"])
    verdict = "in sync" if in_sync else "NOT in sync" if not view["store"]["trouble"] else "NOT well"
    count = f"{_number(view['endpoints'], 'endpoint')}, {_number(view['ports'], 'published port')}"
    lines.append(f"# mdnp {view['version']}, up {duration(view['uptime_s'])}, {count}, {verdict}")
    return "\n".join(lines)


def _cluster(view: Mapping[str, Any]) -> list[str]:
    """How this host stands in the cluster, the worst first."""
    hosts_of_it = f"{view['hosts']['alive']} of {_number(view['hosts']['known'], 'host')} alive"
    since = "" if view["healthy_s"] is None else f" for {duration(view['healthy_s'])}"
    servers = ", ".join(view["servers"])
    if view["connected"] and not view["trouble"]:
        lines = [f"# cluster: in it{since}, {hosts_of_it}, epoch {view['epoch']}; etcd at {servers}"]
    else:
        lines = [f"# cluster: {view['trouble']}", f"# cluster: what is here goes on; last known: {hosts_of_it}"]
    if view["waiting"]:
        names = ", ".join(view["waiting"])
        lines.append(
            f"# cluster: etcd lost its data or was restored; {names} has not told yet what it has, and until then no"
            " segment or block is new: start it, or `mdnp host remove` it"
        )
    if view["pending"]:
        lines.append(f"# cluster: {_number(view['pending'], 'row')} of this host not told yet")
    lines += [f"# cluster: {one['about']}: {one['text']}" for one in view["remarks"]]
    lines += [
        f"# network {network['name']} on {row['name']}: {row['error']}"
        for network in view["networks"]
        for row in network["hosts"]
        if row["state"] == "failed"
    ]
    return lines


def _names(view: Mapping[str, Any]) -> list[str]:
    """Where names are answered, and where they should be and are not."""
    gateways = [one for one in view["gateways"] if not one["trouble"]]
    places = [
        _number(view["sandboxes"], "container"),
        *([_number(len(gateways), "gateway")] if gateways else []),
        *([f"this host at {view['host']['name']}"] if view["host"] and not view["host"]["trouble"] else []),
    ]
    lines = [f"# names: answered for {', '.join(places)}"]
    if view["failed"]:
        count = _number(len(view["failed"]), "container")
        lines.append(f"# names: not for {count}, of which the first: {view['failed'][0]['trouble']}; see `mdnp doctor`")
    troubled = [*view["gateways"], *([view["host"]] if view["host"] else [])]
    lines += [f"# names: not at {one['name']}: {one['trouble']}" for one in troubled if one["trouble"]]
    if view["trouble"]:
        lines.append(f"# names: what is new is not learned: {view['trouble']}")
    elif view["unlearned"]:
        lines.append(f"# names: not known yet of {_number(view['unlearned'], 'container')}")
    return lines


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def repair(view: Mapping[str, Any]) -> str:
    lines = [*view["steps"]]
    lines += [f"# failed: {one}" for one in view["failures"]]
    lines += [f"# lost: {one}: restart its container" for one in view["lost"]]
    return "\n".join(lines or ["# in sync: nothing was to be repaired"])


def details(view: Mapping[str, Any]) -> str:
    """One value a line; a list of values below its name."""
    width = max(map(len, view))
    lines = []
    for name, value in view.items():
        items = value if isinstance(value, list) else [value]
        texts = [_inline(item) for item in items] or ["-"]
        lines.append(f"{name.ljust(width)}  {texts[0]}")
        lines += [f"{'':{width}}  {text}" for text in texts[1:]]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    whole = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_inline(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ",".join(map(_inline, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in (None, "") else "-"
