"""Objects of a bucket: Amazon S3, and what speaks its protocol (MinIO, SeaweedFS, R2, Ceph, …)."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

from rotina.errors import SourceError
from rotina.knowledge.sources.guarded import exchange
from rotina.knowledge.sources.model import BucketSettings, Fetched, Listed, Source

LISTING_BYTES = 20_000_000
"""A page of 1,000 keys, each of up to 1,024 bytes, with room for what surrounds them."""
ATTEMPTS = 3


class Bucket(Source):
    """An object's ETag tells its content.

    boto3 finds the workers' credentials, signs, retries and reads answers; the requests themselves
    go where `exchange` lets them.
    """

    def __init__(self, settings: BucketSettings, hosts: Sequence[str], most_bytes: int) -> None:
        """`hosts` may be at private addresses; `most_bytes` is the largest object that is read."""
        self._settings = settings
        self._hosts = hosts
        self._most = most_bytes
        self._opened: Any = None
        self._opening = Lock()

    async def listed(self) -> AsyncIterator[Listed]:
        """All objects whose key begins with the prefix. Raises `SourceError`."""
        asked = {"Bucket": self._settings.bucket, "Prefix": self._settings.prefix}
        while True:
            page = await self._call("list_objects_v2", asked)
            for each in page.get("Contents", []):
                # What consoles make where a person sees a folder.
                if not each["Key"].endswith("/"):
                    uri = f"s3://{self._settings.bucket}/{each['Key']}"
                    yield Listed(uri, each["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    async def fetch(self, uri: str) -> Fetched:
        """An object's bytes, named by the end of its key."""
        bucket = self._settings.bucket
        key = uri.removeprefix(f"s3://{bucket}/")
        found = await self._call("get_object", {"Bucket": bucket, "Key": key})
        media_type = found.get("ContentType")
        if media_type in {"binary/octet-stream", "application/octet-stream"}:
            # What a server says when nobody told it.
            media_type = None
        return Fetched(PurePosixPath(key).name, found["Body"].read(), media_type)

    async def _call(self, operation: str, asked: Mapping[str, str]) -> Any:
        try:
            from botocore.exceptions import (  # noqa: PLC0415 - an extra
                BotoCoreError,
                ClientError,
                NoCredentialsError,
            )
        except ImportError:
            raise SourceError(
                "Buckets are read by boto3, which is not installed: pip install 'rotina[s3]'"
            ) from None
        bucket = self._settings.bucket
        try:
            return await asyncio.to_thread(self._ask, operation, asked)
        except NoCredentialsError:
            raise SourceError(
                f"The bucket {bucket!r} needs credentials: export AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY for the workers, name a profile of theirs, or say that the "
                "bucket is public"
            ) from None
        except ClientError as error:
            told = error.response.get("Error", {})
            said = f"{told.get('Code', 'error')}: {told.get('Message', '')}".rstrip(": ")
            raise SourceError(f"The bucket {bucket!r} answers {said}") from None
        except (BotoCoreError, ValueError) as error:
            raise SourceError(f"The bucket {bucket!r} cannot be asked: {error}") from None

    def _ask(self, operation: str, asked: Mapping[str, str]) -> Any:
        with self._opening:
            if self._opened is None:
                self._opened = self._client()
        return getattr(self._opened, operation)(**asked)

    def _client(self) -> Any:
        import boto3  # noqa: PLC0415 - an extra
        from botocore import UNSIGNED  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415 - an extra

        own = self._settings
        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            # Servers of one's own seldom have a name for each bucket.
            s3={"addressing_style": "path" if own.endpoint else "auto"},
            # What a server packed is unpacked on the way, and no longer what it took the sum of.
            response_checksum_validation="when_required",
            signature_version=UNSIGNED if own.public else None,
        )
        client = boto3.Session(profile_name=own.profile).client(
            "s3", region_name=own.region, endpoint_url=own.endpoint, config=config
        )
        client.meta.events.register("before-send.s3", self._answer)
        return client

    def _answer(self, request: Any, **_: Any) -> Any:
        """In the thread: the answer to a request that boto3 has signed."""
        from botocore.awsrequest import AWSResponse  # noqa: PLC0415 - an extra

        headers = {name: _text(value) for name, value in request.headers.items()}
        most = max(self._most, LISTING_BYTES) if "list-type" in request.url else self._most
        sent = exchange(request.method, request.url, headers, allowed=self._hosts, most_bytes=most)
        answer = asyncio.run(sent)
        length = {"content-length": str(len(answer.body))}
        return AWSResponse(
            answer.url, answer.status, {**answer.headers, **length}, _Body(answer.body)
        )


class _Body(BytesIO):
    """What botocore reads an answer from."""

    def stream(self) -> Iterator[bytes]:
        """All of it."""
        yield self.read()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
