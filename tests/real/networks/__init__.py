"""The networks: where each comes from, samples for it, and what its outputs are good for. One kind of data a file."""

from .images import EfficientNetLite
from .network import Network
from .ocr import Classifier, Detector, Recognizer
from .programs import Magika
from .sentences import MiniLM
from .speech import SileroVad

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (EfficientNetLite(), Detector(), Classifier(), Recognizer(), Magika(), SileroVad(), MiniLM())
}
