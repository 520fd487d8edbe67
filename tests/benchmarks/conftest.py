"""The servers, once for all tests, where there is a compiler."""

from collections.abc import Iterator

import pytest

from .building import NoCompilerError, find_compiler
from .servers import Cores, Servers, open_servers


@pytest.fixture(scope="session")
def compiler() -> str:
    try:
        return find_compiler()
    except NoCompilerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def servers(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with open_servers(tmp_path_factory.mktemp("servers"), Cores(None, None)) as running:
        yield running
