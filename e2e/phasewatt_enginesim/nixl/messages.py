"""What prefill and decode engines say to each other, and `kv_transfer_params` as routers carry them."""

from pydantic import BaseModel, ConfigDict, Field


class Handshake(BaseModel):
    """A prefill engine's answer to a decode engine that meets it for the first time."""

    engine_id: str
    compatibility_hash: str
    tp_size: int
    block_tokens: int


class ReadDone(BaseModel):
    """A decode engine's notification that it has read (or does not need) a request's blocks."""

    engine_id: str
    request_id: str


class ReadVerdict(BaseModel):
    """Whether the blocks were still held when they were read. False: they may hold another prompt by now."""

    held: bool


class Heartbeat(BaseModel):
    """A decode engine's sign that it still wants these requests' blocks."""

    request_ids: list[str]


class RemotePrefill(BaseModel):
    """The part of `kv_transfer_params` that a decode engine needs to pull a prompt's KV."""

    model_config = ConfigDict(extra="ignore")

    remote_engine_id: str
    remote_request_id: str
    remote_host: str = Field(pattern=r"^[A-Za-z0-9.:_-]+$")
    remote_port: int = Field(ge=1, le=65535)
    remote_block_ids: list[list[int]] = Field(min_length=1)
    tp_size: int = 1
