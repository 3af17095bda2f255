"""
`make record`: records what real engines say to mdnp, as fixtures for tests/wire.

One file for each engine, one exchange a line, in the order of arrival. Paths of the run are written as /run/rig.
"""

import sys
from pathlib import Path

from rig.command import until
from rig.engine import Engine
from rig.host import Host, Underlay
from rig.image import IMAGE
from rig.plugin import Plugin
from rig.rootfs import chosen
from rig.sandbox import Run

_OUT = Path(__file__).parent.parent / "tests/wire/recorded"


def main() -> None:
    for version in chosen():
        with Run() as run:
            host = Host(Underlay(run))
            recorded = host.folder / "recorded.jsonl"
            _record(host, version, recorded)
            text = recorded.read_text().replace(str(host.folder), "/run/rig")
        out = _OUT / f"{version}.jsonl"
        out.write_text(text)
        print(f"# {out.name}: {text.count(chr(10))} exchanges")


def _record(host: Host, version: str, out: Path) -> None:
    # The plugin listens beside the plugin folder; where the engine looks, the recorder does.
    listens = host.folder / "behind.sock"
    plugin = Plugin(host, name="mdnp", options=("--socket", str(listens)))
    plugin.socket = listens
    plugin.start()
    seen = host.plugins / "mdnp.sock"
    recorder = host.spawn([sys.executable, "-m", "rig.recorder", seen, listens, out], log="recorder.log")
    until(seen.exists, "the recorder to listen")
    engine = Engine(host, version)
    engine.start()
    for line in _STORY:
        engine.docker(*line.split(), check=False)  # some must fail: refusals are part of the recording
    engine.close()
    recorder.stop(10)
    plugin.stop()


_SLEEP = f"{IMAGE} sleep 1000"
_BRIDGE = "com.docker.network.bridge"
_STORY = (
    "network create -d mdnp plain",
    "network create -d mdnp --ipv6 --subnet=fd77::/64 --subnet=10.77.0.0/24 --gateway=10.77.0.254 dual",
    "network create -d mdnp --internal shut",
    "network create -d mdnp --ipam-driver=null bare",
    "network create -d mdnp -o mdnp.gateway=docker -o com.docker.network.container_iface_prefix=krish-mdnp gw",
    "network create -d mdnp -o mdnp.gateway=none -o com.docker.network.driver.mtu=9000 jumbo",
    "network create -d mdnp -o mdnp.gatway=none mistyped",
    (
        f"network create -d mdnp -o mdnp.guard=off -o {_BRIDGE}.enable_icc=false"
        f" -o {_BRIDGE}.enable_ip_masquerade=0 -o {_BRIDGE}.host_binding_ipv4=127.0.0.1 open"
    ),
    (
        f"network create -d mdnp --ipv6 --subnet=fd79::/64 --subnet=10.79.0.0/24 -o {_BRIDGE}.gateway_mode_ipv4=routed"
        f" -o {_BRIDGE}.gateway_mode_ipv6=routed -o {_BRIDGE}.name=lab0 straight"
    ),
    f"network create -d mdnp -o {_BRIDGE}.gateway_mode_ipv4=isolated alone",
    f"network create -d mdnp -o {_BRIDGE}.gateway_mode_ipv4=nat-unprotected unprotected",
    f"run -d --name web --net=plain --stop-signal=KILL {_SLEEP}",
    f"run -d --name two --net=dual --ip=10.77.0.7 --mac-address=02:42:0a:4d:00:07 --stop-signal=KILL {_SLEEP}",
    f"run -d --name gated --net=gw -p 8080:80 --stop-signal=KILL {_SLEEP}",
    (
        "run -d --name ports --net=plain -p 8081:80 -p 127.0.0.1:8082:81/udp -p 9000-9002:82 -p 83 -p 8084:84/sctp"
        f" -p [::1]:8085:85 -p 127.0.0.1::86 -p 8087-8088:87-88 --stop-signal=KILL {_SLEEP}"
    ),
    f"run -d --name all --net=dual -P --expose=90 --expose=91/udp --stop-signal=KILL {_SLEEP}",
    f"run -d --name clash --net=plain -p 8086:80 -p 8081:80 {_SLEEP}",
    f"run -d --name narrow --net=plain -p 9001-9003:82 -p 9001-9002:83 -p 9002-9003:84 --stop-signal=KILL {_SLEEP}",
    f"run -d --name full --net=plain -p 9001-9002:80 {_SLEEP}",
    f"run -d --name routed --net=straight -p 8090:80 -p 127.0.0.1:8091:80 --stop-signal=KILL {_SLEEP}",
    f"run -d --name shy --net=open -p 8092:80 -p 8093:80/udp --stop-signal=KILL {_SLEEP}",
    f"run -d --name inner --net=shut -p 8094:80 --stop-signal=KILL {_SLEEP}",
    f"run -d --name quiet --net=bare --stop-signal=KILL {_SLEEP}",
    "network create -d mdnp --ipam-driver=mdnp own",
    (
        "network create -d bridge --ipam-driver=mdnp --subnet=10.78.0.0/24 --ip-range=10.78.0.128/25"
        " --aux-address=nas=10.78.0.5 lent"
    ),
    "network create -d mdnp --ipam-driver=mdnp --subnet=10.78.0.0/16 clashing",
    f"run -d --name fixed --net=own --stop-signal=KILL {_SLEEP}",
    f"run -d --name next --net=own --stop-signal=KILL {_SLEEP}",
    f"run -d --name guest --net=lent --stop-signal=KILL {_SLEEP}",
    f"run -d --name taken --net=lent --ip=10.78.0.5 {_SLEEP}",
    "network connect dual web",
    "network connect shut web",
    # Another way out: the ports move to its network, with or without a word about the one before.
    "network connect dual ports",
    'network connect --driver-opt="mdnp.allow=10.9.0.0/24,fd09::9" open web',  # docker reads it as CSV
    "network connect --driver-opt=mdnp.allow=10.9.0.9/24 plain shy",
    "network connect --driver-opt=mdnp.alow=10.9.0.9 plain shy",
    "network connect jumbo two",
    "network disconnect dual web",
    "restart web",
    "restart ports",
    "network disconnect plain ports",
    "network disconnect -f dual all",
    "stop two",
    "rm -f web two gated ports all clash narrow full routed shy inner quiet fixed next guest taken",
    "network rm plain dual shut bare gw jumbo open straight own lent",
)

if __name__ == "__main__":
    main()
