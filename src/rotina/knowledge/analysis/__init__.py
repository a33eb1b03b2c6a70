"""Embeddings for more than search: classify, cluster, recommend, anomalies, drift, diversity.

Each function takes (n, d) arrays with one embedding a row and knows nothing of where they come
from; `collection_rows` and `file_rows` bring them. Similarity is the cosine throughout.
"""

from rotina.knowledge.analysis.anomaly import Anomalies, Anomaly, anomalies
from rotina.knowledge.analysis.classification import Classified, Neighbour, classify, leave_one_out
from rotina.knowledge.analysis.clustering import Clusters, Topic, Trial, cluster
from rotina.knowledge.analysis.recommendation import Recommended, recommend
from rotina.knowledge.analysis.rows import Rows, TextRow, collection_rows, embed_rows, file_rows
from rotina.knowledge.analysis.two_samples import Drift, drift
from rotina.knowledge.analysis.vendi import Diversity, Pair, diversity, vendi_score

__all__ = [
    "Anomalies",
    "Anomaly",
    "Classified",
    "Clusters",
    "Diversity",
    "Drift",
    "Neighbour",
    "Pair",
    "Recommended",
    "Rows",
    "TextRow",
    "Topic",
    "Trial",
    "anomalies",
    "classify",
    "cluster",
    "collection_rows",
    "diversity",
    "drift",
    "embed_rows",
    "file_rows",
    "leave_one_out",
    "recommend",
    "vendi_score",
]
