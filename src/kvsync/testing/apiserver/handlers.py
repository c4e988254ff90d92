"""
Requests -> what they ask of the stores -> answers.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

from aiohttp import web
from aiohttp.typedefs import Handler

from kvsync.testing.apiserver import pods
from kvsync.testing.apiserver.access import ADMIN, Access
from kvsync.testing.apiserver.collections import listed, selection
from kvsync.testing.apiserver.faults import Faults, Sabotage
from kvsync.testing.apiserver.patches import STRATEGIC, patched
from kvsync.testing.apiserver.refusals import Refusal, not_found
from kvsync.testing.apiserver.store import Item, Store, Versions
from kvsync.testing.apiserver.watching import Watching

POD, POD_STATUS = "/api/v1/namespaces/{namespace}/pods/{name}", "/api/v1/namespaces/{namespace}/pods/{name}/status"
PODS = "/api/v1/namespaces/{namespace}/pods"
NAMESPACE, NAMESPACES = "/api/v1/namespaces/{name}", "/api/v1/namespaces"


class Handlers:
    """The resources and who may use them. One event loop uses it."""

    def __init__(self, access: Access, faults: Faults, *, seed: int = 0) -> None:
        self.access, self.faults = access, faults
        versions = Versions()
        self.pods = Store(versions, self._stir)
        self.namespaces = Store(versions)
        self.watches: dict[Watching, web.Request] = {}
        self._rng = Random(seed)
        for name in ("default", "kube-system"):
            self.namespaces.put(_namespace(name))

    def application(self) -> web.Application:
        """The routes of the API that there are here; all others are a 404 with a `Status`."""
        app = web.Application(middlewares=[self._guard], client_max_size=3 * 1024 * 1024)
        app.add_routes(
            [
                web.get("/version", self._version),
                web.get("/api/v1/pods", self.list_pods),
                web.get(PODS, self.list_pods),
                web.post(PODS, self.create_pod),
                web.delete(PODS, self.delete_pods),
                web.get(POD, self.get_pod),
                web.put(POD, self.replace_pod),
                web.patch(POD, self.patch_pod),
                web.delete(POD, self.delete_pod),
                web.get(POD_STATUS, self.get_pod),
                web.put(POD_STATUS, self.replace_pod),
                web.patch(POD_STATUS, self.patch_pod),
                web.get(NAMESPACES, self.list_namespaces),
                web.post(NAMESPACES, self.create_namespace),
                web.get(NAMESPACE, self.get_namespace),
                web.delete(NAMESPACE, self.delete_namespace),
            ]
        )
        return app

    def end_watches(self, failure: Refusal | None) -> None:
        """Send an ERROR to every open watch, or cut it without a word."""
        for watching, request in self.watches.items():
            if failure is not None:
                watching.failure = failure
                watching.stirred.set()
            elif request.transport is not None:
                request.transport.abort()

    # ------------------------------------------------------------------ pods

    async def list_pods(self, request: web.Request) -> web.StreamResponse:
        is_watch = request.query.get("watch", "") in ("true", "1")
        namespace = self._allow(request, "watch" if is_watch else "list", "pods")
        selects = selection(request.query, namespace, self.faults)
        if is_watch:
            return await self._watch(request, Watching(self.pods, request.query, selects, "Pod", self.faults))
        return web.json_response(listed(self.pods, request.query, selects, "Pod", self.faults))

    async def create_pod(self, request: web.Request) -> web.Response:
        namespace = self._allow(request, "create", "pods")
        if self.namespaces.get(("", namespace)) is None:
            raise not_found("namespaces", namespace)
        body = await self._body(request)
        suffix = "".join(self._rng.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        try:
            pod = pods.created(body, namespace, uid=self._uid(), now=_now(), suffix=suffix)
        except Refusal as refusal:
            if refusal.code != 422 or not self.faults.does(Sabotage.INVALID_POD):
                raise
            pod = {**body, "status": {"phase": "Pending"}}
            pod["metadata"] = {"uid": str(self._uid()), **body["metadata"], "namespace": namespace}
        name = pod["metadata"]["name"]
        if self.pods.get((namespace, name)) is not None and not self.faults.does(Sabotage.DUPLICATES):
            details = {"name": name, "kind": "pods"}
            raise Refusal(409, f'pods "{name}" already exists', reason="AlreadyExists", details=details)
        return web.json_response(self.pods.put(pod), status=201)

    async def get_pod(self, request: web.Request) -> web.Response:
        self._allow(request, "get", "pods")
        return web.json_response(self._pod(request))

    async def replace_pod(self, request: web.Request) -> web.Response:
        part = "status" if request.path.endswith("/status") else "pod"
        self._allow(request, "update", "pods/status" if part == "status" else "pods")
        before, body = self._pod(request), await self._body(request)
        return web.json_response(self._write(before, body, part))

    async def patch_pod(self, request: web.Request) -> web.Response:
        part = "status" if request.path.endswith("/status") else "pod"
        self._allow(request, "patch", "pods/status" if part == "status" else "pods")
        before, kind = self._pod(request), request.content_type
        if kind == STRATEGIC and self.faults.does(Sabotage.STRATEGIC_REPLACES):
            kind = "application/merge-patch+json"
        after = patched(before, await self._body(request, as_is=True), kind)
        return web.json_response(self._write(before, after, part))

    async def delete_pod(self, request: web.Request) -> web.Response:
        self._allow(request, "delete", "pods")
        item = self._pod(request)
        body = await self._body(request, may_be_empty=True)
        wanted = (body.get("preconditions") or {}).get("uid")
        if wanted not in (None, item["metadata"]["uid"]):
            raise Refusal(409, f"the UID in the precondition ({wanted}) does not match the UID in record")
        asked = body.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
        return web.json_response(self._end(item, None if asked is None else int(asked)))

    async def delete_pods(self, request: web.Request) -> web.Response:
        namespace = self._allow(request, "deletecollection", "pods")
        selects = selection(request.query, namespace, self.faults)
        ended = [self._end(item, 0) for item in self.pods.at(self.pods.versions.current) if selects(item)]
        metadata = {"resourceVersion": str(self.pods.versions.current)}
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": ended})

    def _pod(self, request: web.Request) -> Item:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        item = self.pods.get((namespace, name))
        if item is None and self.faults.does(Sabotage.NOT_FOUND_IS_EMPTY):
            return {"metadata": {}}
        if item is None:
            raise not_found("pods", name)
        return item

    def _write(self, before: Item, body: Item, part: str) -> Item:
        if self.faults.does(Sabotage.STALE_REPLACE):
            body = {**body, "metadata": {**body.get("metadata", {}), "resourceVersion": ""}}
        after = pods.replaced(before, body, part=part)
        if part == "pod" and self.faults.does(Sabotage.STATUS_WITH_REPLACE):
            after = {**after, "status": body.get("status", {})}
        if part == "status" and self.faults.does(Sabotage.SPEC_WITH_STATUS):
            labels = body.get("metadata", {}).get("labels", {})
            after = {**after, "metadata": {**after["metadata"], "labels": labels}}
        if self.faults.does(Sabotage.NOOP_IS_WRITTEN):
            after = {**after, "metadata": {**after["metadata"], "generation": self._rng.random()}}
        written = self.pods.put(after)
        if self.faults.does(Sabotage.VERSIONS_STAND):
            version = before["metadata"]["resourceVersion"]
            return {**written, "metadata": {**written["metadata"], "resourceVersion": version}}
        return written

    def _end(self, item: Item, asked: int | None) -> Item:
        grace_s = pods.grace_of(item, asked)
        told = self.pods.put(pods.ending(item, grace_s, now=_now()))
        key = (item["metadata"]["namespace"], item["metadata"]["name"])
        return self.pods.delete(key) if grace_s == 0 else told

    # ------------------------------------------------------------------ namespaces

    async def list_namespaces(self, request: web.Request) -> web.Response:
        self._allow(request, "list", "namespaces")
        selects = selection(request.query, "", self.faults)
        return web.json_response(listed(self.namespaces, request.query, selects, "Namespace", self.faults))

    async def create_namespace(self, request: web.Request) -> web.Response:
        self._allow(request, "create", "namespaces")
        metadata = (await self._body(request)).get("metadata") or {}
        name = metadata.get("name") or f"{metadata.get('generateName', '')}{self._rng.randrange(10**6)}"
        if self.namespaces.get(("", name)) is not None:
            raise Refusal(409, f'namespaces "{name}" already exists', reason="AlreadyExists")
        return web.json_response(self.namespaces.put(_namespace(name)), status=201)

    async def get_namespace(self, request: web.Request) -> web.Response:
        self._allow(request, "get", "namespaces")
        return web.json_response(self._namespace(request))

    async def delete_namespace(self, request: web.Request) -> web.Response:
        self._allow(request, "delete", "namespaces")
        name = self._namespace(request)["metadata"]["name"]
        for item in self.pods.at(self.pods.versions.current):
            if item["metadata"]["namespace"] == name:
                self._end(item, 0)
        return web.json_response(self.namespaces.delete(("", name)))

    def _namespace(self, request: web.Request) -> Item:
        item = self.namespaces.get(("", request.match_info["name"]))
        if item is None:
            raise not_found("namespaces", request.match_info["name"])
        return item

    # ------------------------------------------------------------------ around all

    async def _watch(self, request: web.Request, watching: Watching) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        self.watches[watching] = request
        try:
            await response.prepare(request)
            async for line in watching.events():
                await response.write(line)
            await response.write_eof()
        except ConnectionResetError:
            pass  # whoever watched has gone
        finally:
            del self.watches[watching]
        return response

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if self.faults.slow_s:
                await asyncio.sleep(self.faults.slow_s)
            self._fail_on_purpose()
            return await handler(request)
        except Refusal as refusal:
            return web.json_response(refusal.status, status=refusal.code, headers=refusal.headers)
        except web.HTTPException as error:
            text = "the server could not find the requested resource" if error.status == 404 else error.reason
            return web.json_response(Refusal(error.status, text).status, status=error.status)

    def _fail_on_purpose(self) -> None:
        if self.faults.throttled:
            self.faults.throttled -= 1
            text = "the server has received too many requests and has asked us to try again later"
            raise Refusal(429, text, details={"retryAfterSeconds": 1}, headers={"Retry-After": "1"})
        if self.faults.failing:
            self.faults.failing -= 1
            raise Refusal(500, "Internal error occurred: etcdserver: leader changed")

    def _allow(self, request: web.Request, verb: str, resource: str) -> str:
        """Check who asks; gives the namespace."""
        if self.faults.does(Sabotage.BAD_TOKEN):
            user = request.headers.get("Impersonate-User", ADMIN)
        else:
            user = self.access.user(request.headers)
        namespace, name = request.match_info.get("namespace", ""), request.match_info.get("name", "")
        if not self.faults.does(Sabotage.NO_RBAC):
            self.access.check(user, verb, resource, namespace, name)
        return namespace

    async def _body(self, request: web.Request, *, may_be_empty: bool = False, as_is: bool = False) -> Any:
        content = await request.read()
        if not content and may_be_empty:
            return {}
        try:
            body = json.loads(content)
        except ValueError as error:
            raise Refusal(400, f"the object provided is unrecognized: {error}") from error
        if not as_is and not isinstance(body, dict):
            raise Refusal(400, "the object provided is no object")
        return body

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.0-kvsync-double"})

    def _stir(self) -> None:
        for watching in self.watches:
            watching.stirred.set()

    def _uid(self) -> UUID:
        return UUID(int=self._rng.getrandbits(128), version=4)


def _namespace(name: str) -> Item:
    return {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}, "creationTimestamp": _now()},
        "status": {"phase": "Active"},
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
