"""One way to the API server, for our own client and for the watcher: a kubeconfig or the pod's service account."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

CONNECTIONS = 32
"""Connections to the API server at once; more than workers, since events and lists share the pool."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The current way in, as a watcher needs it; `scheme` and `token` make the Authorization header."""

    server: str
    ca_path: str | None
    ca_data: str | bytes | None
    certificate_path: str | None
    private_key_path: str | None
    insecure: bool
    scheme: str | None
    token: str | None


async def load_configuration(kubeconfig: str | None, context: str | None = None) -> Configuration:
    """Read the kubeconfig (its current context by default), or, where none is named, the pod's service account.

    Raises SystemExit with a sentence that says what to set where there is neither.
    """
    configuration = Configuration()
    try:
        if kubeconfig:
            await load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
        else:
            load_incluster_config(client_configuration=configuration)
    except ConfigException as error:
        raise SystemExit(
            f"no way to the API server: {error}. Set --kubeconfig, or run with a service account."
        ) from None
    configuration.connection_pool_maxsize = CONNECTIONS
    return configuration


async def current_credentials(configuration: Configuration) -> Credentials:
    """Credentials as of now: the token is refreshed first where it can expire."""
    scheme, token = await authorization(configuration)
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        ca_data=configuration.ca_cert_data,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        insecure=not configuration.verify_ssl,
        scheme=scheme,
        token=token,
    )


async def authorization(configuration: Configuration) -> tuple[str | None, str | None]:
    """Scheme and token of the Authorization header; both None with client certificates."""
    setting = (await configuration.auth_settings()).get("BearerToken")
    if not setting or not setting["value"]:
        return None, None
    scheme, _, token = str(setting["value"]).partition(" ")
    return scheme.capitalize(), token.strip()


def is_tls_failure(error: BaseException) -> bool:
    """Whether the connection failed on certificates, which no retry heals."""
    return isinstance(error, ssl.SSLCertVerificationError) or isinstance(
        getattr(error, "os_error", None), ssl.SSLCertVerificationError
    )
