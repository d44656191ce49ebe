"""Every setting, read once from `STUDIO_*` variables. `docs/settings.md` lists them; a test keeps the list complete.

A process is given only the secrets it needs: a database URL that is absent means that this process has no business
with that role, and asking for it is a clear error.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from studio.errors import StudioError

REPOSITORY = Path(__file__).resolve().parent.parent

DatabaseRole = Literal["owner", "gateway", "operator", "shipper", "worker", "node_agent", "auditor"]


class SettingMissing(StudioError):
    """A process needs a setting that it was not given."""


class Settings(BaseSettings):
    """One frozen object per process; see the field descriptions."""

    model_config = SettingsConfigDict(env_prefix="STUDIO_", frozen=True, extra="ignore")

    env: Literal["production", "demo", "test"] = Field("production", description="what kind of installation this is")
    log_format: Literal["console", "json"] = Field("console", description="how logs are written to stderr")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")
    catalog_dir: Path = Field(REPOSITORY / "catalog", description="folder of the reviewed catalog files")
    site: str = Field("local", description="which file of `catalog/sites` says what is deployed here")

    database_owner_url: SecretStr | None = Field(None, description="role for migrations (DDL)")
    database_gateway_url: SecretStr | None = Field(None, description="role of the gateway's tenant-scoped requests")
    database_operator_url: SecretStr | None = Field(None, description="role of the gateway's `/admin/v1` routes")
    database_shipper_url: SecretStr | None = Field(None, description="role that ships the usage journal")
    database_worker_url: SecretStr | None = Field(None, description="role of the Dagster processes")
    database_node_agent_url: SecretStr | None = Field(None, description="role of the node agent")
    database_auditor_url: SecretStr | None = Field(None, description="role that reads everything and changes nothing")

    s3_endpoint_url: str | None = Field(None, description="S3 server; empty: AWS's own endpoints")
    s3_access_key: SecretStr | None = Field(None, description="S3 access key id")
    s3_secret_key: SecretStr | None = Field(None, description="S3 secret access key")
    s3_bucket_prefix: str = Field("", description="put before each bucket name, for shared S3 servers")
    replica_s3_endpoint_url: str | None = Field(None, description="S3 server of copies in the EU; empty: none are made")
    replica_s3_access_key: SecretStr | None = Field(None, description="S3 access key id there")
    replica_s3_secret_key: SecretStr | None = Field(None, description="S3 secret access key there")
    replica_s3_bucket_prefix: str = Field("", description="put before each bucket name there")
    valkey_url: SecretStr | None = Field(None, description="Valkey of limits and caches; empty: one gateway alone")

    traces_url: str | None = Field(None, description="OTLP/HTTP collector of traces; empty: none are made")
    traces_share: float = Field(0.01, ge=0, le=1, description="share of requests that are traced")

    vies_url: str | None = Field(None, description="the EU's register of VAT ids (VIES, REST); empty: not asked")

    cross_check_share: float = Field(0.01, ge=0, le=1, description="share of requests that are counted again")

    gateway_host: str = Field("127.0.0.1", description="address of the public listener")
    gateway_port: int = Field(8080, description="port of the public listener")
    gateway_shares_port: bool = Field(False, description="whether several gateways of one machine answer on that port")
    gateway_internal_host: str = Field("127.0.0.1", description="address of the listener of health and metrics")
    gateway_internal_port: int = Field(8081, description="port of health and metrics, never public")
    state_metrics_host: str = Field("127.0.0.1", description="address of the metrics of what the database says")
    state_metrics_port: int = Field(9401, description="port of the metrics of what the database says, never public")
    prometheus_url: str | None = Field(None, description="Prometheus that knows the cards' energy; empty: none is kept")
    gateway_url: str = Field("http://127.0.0.1:8080", description="where users reach the gateway")
    dagster_url: str = Field("http://127.0.0.1:3070", description="where operators reach Dagster's UI")
    console_dir: Path = Field(REPOSITORY / "build/console", description="the built console that the gateway serves")
    journal_dir: Path = Field(Path(".studio/journal"), description="usage journal; must outlive the process")
    max_body_bytes: int = Field(32 * 1024 * 1024, description="largest request body of a token route")
    image_hosts: str = Field("", description="hosts that images may be fetched from, by commas; empty: all public ones")
    max_file_bytes: int = Field(512 * 1024 * 1024, description="largest file that a tenant may upload")
    batch_lines_per_replica: int = Field(32, description="batch lines that one worker keeps in flight per replica")
    cache_salt_key: SecretStr | None = Field(None, description="secret behind each tenant's KV-cache salt")
    cache_bytes_per_tenant: int = Field(
        16 * 1024 * 1024, ge=0, description="most that a tenant's cached answers take in Valkey; 0: none are kept"
    )
    content_key: SecretStr | None = Field(None, description="secret that encrypts what tenants ask us to keep")

    stripe_webhook_secret: SecretStr | None = Field(None, description="secret of Stripe's webhook; empty: it is off")
    stripe_legal_entity: str = Field("xpulink-de", description="legal entity whose account at Stripe it is")
    webhook_key: SecretStr | None = Field(
        None, description="secret that seals webhooks' secrets; empty: there are none"
    )
    smtp_host: str | None = Field(None, description="mail server; empty: no mail is written or sent")
    smtp_port: int = Field(587, description="its port")
    smtp_tls: Literal["starttls", "tls", "none"] = Field("starttls", description="how the way to it is encrypted")
    smtp_user: str | None = Field(None, description="user at the mail server; empty: none")
    smtp_password: SecretStr | None = Field(None, description="password of that user")
    smtp_from: str = Field("billing@localhost", description="sender of all mail")

    certificate_key: SecretStr | None = Field(None, description="secret behind the key that signs certificates")

    oidc_issuer: str | None = Field(None, description="OpenID provider that people sign in with; empty: keys only")
    oidc_audience: str = Field("xpulink-studio", description="what `aud` of a sign-in's token must contain")
    oidc_tenant_claim: str = Field("tenant", description="claim that names tenants, by slug or group `/tenants/<slug>`")
    oidc_roles_claim: str = Field("realm_access.roles", description="claim that lists roles")

    oidc_client_id: str | None = Field(None, description="client that browsers sign in with; empty: tokens only")
    oidc_client_secret: SecretStr | None = Field(None, description="its secret; empty: a public client with PKCE")
    oidc_scopes: str = Field("openid profile email", description="what a browser's sign-in asks the provider for")
    signin_links: bool = Field(False, description="whether operators may make one-time sign-in links in production")

    try_it: bool = Field(False, description="whether visitors of the first page may ask a model without a key")
    try_it_tokens_per_day: int = Field(50_000, ge=1, description="most tokens of all visitors together in a day (UTC)")
    try_it_requests_per_visitor: int = Field(10, ge=1, description="most questions of one address in an hour")
    try_it_proxies: int = Field(0, ge=0, description="proxies of ours that write `X-Forwarded-For`; 0: nobody does")

    weights_dir: Path = Field(Path(".studio/weights"), description="verified local copies of model weights")
    engine_python: Path = Field(REPOSITORY / ".venv-engine/bin/python", description="interpreter that runs vLLM")
    engine_port_base: int = Field(18100, description="first port that the node agent gives to engines")
    engine_log_dir: Path = Field(Path(".studio/logs"), description="where the node agent writes engine logs")

    def database_url(self, role: DatabaseRole) -> str:
        """The URL of one role; SettingMissing when this process was not given it."""
        secret: SecretStr | None = getattr(self, f"database_{role}_url")
        if secret is None:
            raise SettingMissing(f"STUDIO_DATABASE_{role.upper()}_URL is not set for this process")
        return secret.get_secret_value()


@cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
