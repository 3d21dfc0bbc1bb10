"""The values of the documents."""

import re

import pytest
from chart import ROOT, HelmError, objects, template

PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*/*.md"))]
VALUES = [
    pytest.param(values, id=f"{page.name}-{page.parent.name}")
    for page in PAGES
    for values in re.findall(r"^```yaml values\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
]


def test_documents_have_values():
    assert len(VALUES) >= 2


@pytest.mark.parametrize("values", VALUES)
def test_values_of_the_documents_protect_an_application(values, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(values, encoding="utf-8")
    assert "MutatingAdmissionPolicy" in {one["kind"] for one in objects(template(file))}
    file.write_text(values.replace("protect:", "prodect:"), encoding="utf-8")
    with pytest.raises(HelmError):
        template(file)
