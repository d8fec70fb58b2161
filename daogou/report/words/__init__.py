"""What pages say, in English and Chinese: a file a page."""

from collections.abc import Mapping

Words = Mapping[str, str]
