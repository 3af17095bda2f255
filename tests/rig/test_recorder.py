"""The recording proxy: what it passes on and what it writes."""

import asyncio
import json
import sys
from pathlib import Path

from aiohttp import ClientSession, UnixConnector, web

ROOT = Path(__file__).parents[2]


async def plugin(request: web.Request) -> web.Response:
    """Answers /slow only after what came later; refuses the rest with what it was sent."""
    body = await request.text()
    if request.path == "/slow":
        request.app[ARRIVED].set()
        await request.app[GATE].wait()
        return web.Response(text="late")
    request.app[GATE].set()
    return web.json_response({"Err": body}, status=404)


GATE = web.AppKey("gate", asyncio.Event)
ARRIVED = web.AppKey("arrived", asyncio.Event)


async def until_listening(path: Path) -> None:
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(str(path))
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


async def test_exchanges_are_passed_on_and_kept_in_order(tmp_path: Path) -> None:
    application = web.Application()
    application[GATE], application[ARRIVED] = asyncio.Event(), asyncio.Event()
    application.router.add_route("*", "/{path:.*}", plugin)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "plugin.sock")).start()
    files = [str(tmp_path / name) for name in ("listen.sock", "plugin.sock", "out.jsonl")]
    recorder = await asyncio.create_subprocess_exec(sys.executable, "-m", "rig.recorder", *files, cwd=ROOT)
    await until_listening(tmp_path / "listen.sock")

    async with ClientSession(connector=UnixConnector(files[0])) as session:
        slow = asyncio.create_task(session.post("http://x/slow"))
        await application[ARRIVED].wait()
        refusal = await session.post("http://x/NetworkDriver.Join", data='{"a": 1}', headers={"Accept": "v1.2"})
        answers = [await (await slow).text(), refusal.status, await refusal.json()]
    recorder.terminate()
    await recorder.wait()
    await runner.cleanup()

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert answers == ["late", 404, {"Err": '{"a": 1}'}]
    assert [list(line) for line in lines] == [["path", "headers", "request", "status", "reply"]] * 2
    assert [(line["path"], line["request"], line["status"], line["reply"]) for line in lines] == [
        ("/slow", "", 200, "late"),
        ("/NetworkDriver.Join", '{"a": 1}', 404, '{"Err": "{\\"a\\": 1}"}'),
    ]
    assert lines[1]["headers"]["Accept"] == "v1.2"
