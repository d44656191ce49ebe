"""What assets and sensors are given: plain objects of our own, made from the settings of the process.

No field holds a secret, so none can appear in Dagster's pages.
"""

from functools import cache

import dagster as dg
from sqlalchemy import Engine

from assets.catalog import CatalogFiles
from assets.cluster import ClusterSite
from assets.notices import Post
from assets.objects import Replica
from billing.mail_sending import Server
from billing.vat_confirmation import Register
from billing.vat_ids import Vies
from serving.batches.drain import Equipment
from serving.batches.process import equipment_of
from serving.isolation.night import Prober
from serving.webhooks.sending import Sender
from studio.cluster.site import declared_cluster
from studio.db.sessions import engine_for
from studio.objects import ObjectStore
from studio.prometheus import Prometheus
from studio.sealing import Seal
from studio.settings import Settings, settings
from studio.signing import Signer
from training.cluster import ClusterTrainers
from training.job_manifest import StoreAccess
from training.process import LocalTrainers, trainer_environment
from training.run import Workshop
from training.trainers import Trainers


@cache
def _worker_engine(url: str) -> Engine:
    """One pool per process: sensors tick every few seconds and must not open a connection each time."""
    return engine_for(url, pool_size=2)


class WorkerDatabase(dg.ConfigurableResource[Engine]):
    """The database, in the role that may see all tenants and owns no table."""

    def create_resource(self, context: dg.InitResourceContext) -> Engine:
        """The engine of this process."""
        return _worker_engine(settings().database_url("worker"))


class Objects(dg.ConfigurableResource[ObjectStore]):
    """The object store."""

    def create_resource(self, context: dg.InitResourceContext) -> ObjectStore:
        """A client; nothing is contacted yet."""
        return ObjectStore.from_settings(settings())


class ObjectReplica(dg.ConfigurableResource[Replica]):
    """The second object store, where the settings name one."""

    def create_resource(self, context: dg.InitResourceContext) -> Replica:
        """A client; nothing is contacted yet."""
        return Replica(ObjectStore.replica(settings()))


class VatRegister(dg.ConfigurableResource[Register]):
    """The EU's register of VAT ids, where the settings name one."""

    def create_resource(self, context: dg.InitResourceContext) -> Register:
        """Its address; nothing is contacted yet."""
        url = settings().vies_url
        return Register(Vies(url) if url else None)


class ReviewedCatalog(dg.ConfigurableResource[CatalogFiles]):
    """The reviewed catalog files of this site."""

    def create_resource(self, context: dg.InitResourceContext) -> CatalogFiles:
        """Where they lie."""
        return CatalogFiles(settings().catalog_dir, settings().site)


class BatchEquipment(dg.ConfigurableResource[Equipment]):
    """What a batch worker works with."""

    def create_resource(self, context: dg.InitResourceContext) -> Equipment:
        """Its parts; nothing is contacted yet."""
        return equipment_of(settings())


class TrainingWorkshop(dg.ConfigurableResource[Workshop]):
    """What a fine-tune works with: this machine, or the site's cluster."""

    def create_resource(self, context: dg.InitResourceContext) -> Workshop:
        """Its parts; nothing is contacted or started yet."""
        configured = settings()
        store = ObjectStore.from_settings(configured)
        return Workshop(_worker_engine(configured.database_url("worker")), store, _trainers(configured, store))


def _trainers(configured: Settings, store: ObjectStore) -> Trainers:
    """Jobs where the site's cluster trains, processes beside the runs everywhere else."""
    cluster = declared_cluster(configured.catalog_dir, configured.site)
    if cluster is None or cluster.training is None:
        return LocalTrainers(store, configured.engine_python, trainer_environment(configured), configured.weights_dir)
    access = StoreAccess(configured.s3_endpoint_url, configured.s3_bucket_prefix)
    return ClusterTrainers(store, access, cluster.training, cluster.gpu_resource)


class IsolationProber(dg.ConfigurableResource[Prober]):
    """What the nightly probe works with."""

    def create_resource(self, context: dg.InitResourceContext) -> Prober:
        """Its parts; nothing is contacted yet."""
        configured = settings()
        return Prober(
            worker=_worker_engine(configured.database_url("worker")),
            gateway=engine_for(configured.database_url("gateway"), pool_size=1),
            gateway_url=configured.gateway_url,
            signer=Signer.from_settings(configured),
        )


class DeclaredSite(dg.ConfigurableResource[ClusterSite]):
    """The cluster that this site's catalog declares."""

    def create_resource(self, context: dg.InitResourceContext) -> ClusterSite:
        """Where it is declared; nothing is read or contacted yet."""
        return ClusterSite(settings().catalog_dir, settings().site)


class TenantsPost(dg.ConfigurableResource[Post]):
    """What notices to tenants are sent with, as far as it is set up."""

    def create_resource(self, context: dg.InitResourceContext) -> Post:
        """Its parts; nothing is contacted yet."""
        configured = settings()
        database, key = _worker_engine(configured.database_url("worker")), configured.webhook_key
        sender = None if key is None else Sender(database, Seal(key.get_secret_value().encode()))
        return Post(sender, Server.from_settings(configured))


class CardMetrics(dg.ConfigurableResource[Prometheus]):
    """The Prometheus that knows the cards' energy."""

    def create_resource(self, context: dg.InitResourceContext) -> Prometheus:
        """Where it answers; nothing is contacted yet."""
        return Prometheus(settings().prometheus_url)


RESOURCES: dict[str, object] = {
    "worker_database": WorkerDatabase(),
    "objects": Objects(),
    "replica": ObjectReplica(),
    "batch_equipment": BatchEquipment(),
    "workshop": TrainingWorkshop(),
    "catalog_files": ReviewedCatalog(),
    "isolation_prober": IsolationProber(),
    "cluster_site": DeclaredSite(),
    "vat_register": VatRegister(),
    "post": TenantsPost(),
    "prometheus": CardMetrics(),
}
