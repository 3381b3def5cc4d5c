def test_x(image):
    print(image.report, image.disk, image._artefacts)
    assert image.artefact("root-tree").is_dir()
    assert image.artefact("tools-tree").is_dir()
