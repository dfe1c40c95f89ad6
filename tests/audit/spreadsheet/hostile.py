"""Spreadsheets that somebody made to do harm, or damaged: what each must lead to."""

import functools
import io
import re
import struct
import warnings
import zipfile
import zlib
from xml.sax.saxutils import escape, quoteattr

import xlsxwriter

from backprop.descent import COLUMNS
from backprop.equations import heading
from tests.backprop.test_descent import spreadsheet
from tests.backprop.test_network import CASE, START

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
BOOK, STRINGS = "xl/workbook.xml", "xl/sharedStrings.xml"
SHEET = "xl/worksheets/sheet1.xml"
TABLE = [[heading(name) for name in COLUMNS], *spreadsheet(0.5, START, CASE, 5).tolist()]


@functools.cache
def right():
    """A right table, as constants."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        sheet = book.add_worksheet()
        for row, cells in enumerate(TABLE):
            sheet.write_row(row, 0, cells)
    return content.getvalue()


def parts(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members, method=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method, compresslevel=1) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


def changed(**more):
    """The right table with other parts, named with __ for / and _DOT_ for a point."""
    return packed(
        parts(right()) | {name.replace("__", "/").replace("_DOT_", "."): t for name, t in more.items()}
    )


def with_part(name, text):
    return packed(parts(right()) | {name: text})


def edited(part, old, new):
    members = parts(right())
    assert old.encode() in members[part]
    return packed(members | {part: members[part].replace(old.encode(), new.encode(), 1)})


def with_sheet(data):
    """A file whose first sheet holds this XML."""
    return with_part(SHEET, f'<worksheet xmlns="{MAIN}"><sheetData>{data}</sheetData></worksheet>')


def after_table(xml):
    return edited(SHEET, "</sheetData>", f"</sheetData>{xml}")


def with_row(row, cells):
    return edited(SHEET, "</sheetData>", f'<row r="{row}">{cells}</row></sheetData>')


def with_cell(xml):
    """The right table with one more row far below."""
    return with_row(99, xml)


def with_formula(text):
    return with_cell(f'<c r="A99"><f>{escape(text)}</f><v>1</v></c>')


def with_relation(kind, target, mode=""):
    text = (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="rId9" Type="{OFFICE}/{kind}" Target="{target}"{mode}/></Relationships>'
    )
    return with_part("xl/worksheets/_rels/sheet1.xml.rels", text)


def lying(name=SHEET, size=100, megabytes=650):
    """The archive says that a part is small; its stream goes on for much longer, and the sum is right."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    head = b"<worksheet/>".ljust(size)
    stream = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    megabyte = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
    stream += megabyte * megabytes + packer.flush()
    content = io.BytesIO()
    members = parts(right())
    del members[name]
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for other, text in members.items():
            archive.writestr(other, text)
        start = archive.fp.tell()
        info = zipfile.ZipInfo(name)
        info.compress_type, info.header_offset = zipfile.ZIP_DEFLATED, start
        info.file_size, info.compress_size, info.CRC = size, len(stream), zlib.crc32(head)
        archive.fp.write(info.FileHeader() + stream)
        archive.start_dir = archive.fp.tell()
        archive.filelist.append(info)
        archive.NameToInfo[name] = info
    return content.getvalue()


def overlapping(copies=1000):
    """One compressed part that the directory names many times."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts(right()).items():
            archive.writestr(name, text)
        archive.writestr("kernel", b"\0" * 2**15)
        kernel = archive.getinfo("kernel")
        for n in range(copies):
            again = zipfile.ZipInfo(f"copy{n}")
            for field in ("compress_type", "header_offset", "file_size", "compress_size", "CRC"):
                setattr(again, field, getattr(kernel, field))
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    return content.getvalue()


def twice_named():
    content = io.BytesIO(right())
    with zipfile.ZipFile(content, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(SHEET, parts(right())[SHEET])
    return content.getvalue()


LAUGHS = "".join(
    [
        '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">',
        *(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(30)),
        "]><worksheet>&a30;</worksheet>",
    ]
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><worksheet>&a;</worksheet>'
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504
REACHES = "holds a formula that refers to other files or addresses"
LARGE = "is too large"
DAMAGED = "is damaged"
RIGHT = ": RIGHT"
NO_TABLE = "no back-propagation table"
ENTITIES = "defines XML entities"


def csv_table(row=3, column=20, value=None, before=""):
    lines = [list(map(str, line)) for line in TABLE]
    if value is not None:
        lines[row][column] = value
    return (before + "".join(",".join(line) + "\n" for line in lines)).encode()


def strings(xml):
    return f'<sst xmlns="{MAIN}">{xml}</sst>'


def long_string_in_many_cells():
    row = '<row r="{}">' + "<c t='s'><v>0</v></c>" * 1000 + "</row>"
    data = "".join(row.format(n) for n in range(1, 20))
    return packed(
        parts(with_sheet(data))
        | {"xl/sharedStrings.xml": strings(f'<si><t xml:space="preserve"> {"a" * 2**20} </t></si>')}
    )


def long_shared_formula():
    first = f'<row r="1"><c r="A1"><f t="shared" si="0" ref="A1:Z9">{"+A1" * 2700}</f><v>1</v></c></row>'
    other = '<row r="{0}"><c r="A{0}"><f t="shared" si="0">1</f><v>1</v></c></row>'
    return with_sheet(first + "".join(other.format(n) for n in range(2, 20_000)))


def many_conditional_formats():
    rule = '<cfRule type="expression" priority="1"><formula>1</formula></cfRule>'
    one = '<conditionalFormatting sqref="A{}">' + rule + "</conditionalFormatting>"
    return after_table("".join(one.format(n) for n in range(1, 100_000)))


def many_merges():
    return after_table("".join(f'<mergeCell ref="A{n}:B{n}"/>' for n in range(10, 200_000)))


def many_attributes():
    return with_sheet("<row " + " ".join(f'a{n}=""' for n in range(1_050_000)) + "/>")


def merged(ref):
    return after_table(f'<mergeCells><mergeCell ref="{ref}"/></mergeCells>')


def merged_over_the_table():
    """A text that stands in several cells of the table, all but the first of which take no comment."""
    members = parts(merged("U4:U5"))
    sheet = re.sub(rb'<c r="U4"><v>[^<]*</v>', b'<c r="U4" t="str"><v>text</v>', members[SHEET])
    return packed(members | {SHEET: sheet})


def error_of_4000_digits():
    members = parts(right())
    sheet = re.sub(rb'(<c r="U4">)<v>[^<]*</v>', rb"\1<v>%s</v>" % (b"9" * 4000), members[SHEET])
    return packed(members | {SHEET: sheet})


def linked(ref):
    return after_table(f'<hyperlinks><hyperlink ref="{ref}" location="A1"/></hyperlinks>')


def with_name(text):
    names = f'<definedNames><definedName name="eta">{text}</definedName></definedNames>'
    return edited("xl/workbook.xml", "</sheets>", f"</sheets>{names}")


def shared_sheet(entries=500, rows=1000):
    """Many sheets that are the same part."""
    row = "<row>" + "<c><v>1</v></c>" * 20 + "</row>"
    members = parts(with_sheet(row * rows))
    names = "".join(f'<sheet name="s{n}" sheetId="{n + 9}" r:id="rId1"/>' for n in range(entries))
    return packed(members | {BOOK: members[BOOK].replace(b"</sheets>", names.encode() + b"</sheets>")})


def shared_picture(places=2000, megabytes=1):
    """Many places in a drawing that show the same picture."""
    return with_drawing("image", "media/a.png", png() + b"\0" * megabytes * 2**20, places)


def png(side=1):
    """A black picture."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(side * (side + 1))))
        + chunk(b"IEND", b"")
    )


def shared_chart(places=2000, points=1000):
    """Many places in a drawing that show the same chart."""
    values = "".join(f'<c:pt idx="{n}"><c:v>1</c:v></c:pt>' for n in range(points))
    chart = (
        f'<c:chartSpace xmlns:c="{DRAWN}/chart"><c:chart><c:plotArea><c:layout/><c:barChart><c:ser>'
        '<c:idx val="0"/><c:order val="0"/><c:val><c:numRef><c:f>A1</c:f>'
        f"<c:numCache>{values}</c:numCache></c:numRef></c:val></c:ser></c:barChart></c:plotArea></c:chart></c:chartSpace>"
    )
    return with_drawing("chart", "charts/a.xml", chart, places)


DRAWN = "http://schemas.openxmlformats.org/drawingml/2006"


def with_drawing(kind, part, content, places):
    shown = {
        "image": '<xdr:pic><xdr:nvPicPr><xdr:cNvPr id="1" name="a"/><xdr:cNvPicPr/></xdr:nvPicPr>'
        '<xdr:blipFill><a:blip r:embed="rId1"/></xdr:blipFill><xdr:spPr/></xdr:pic>',
        "chart": '<xdr:graphicFrame><xdr:nvGraphicFramePr><xdr:cNvPr id="1" name="a"/>'
        "<xdr:cNvGraphicFramePr/></xdr:nvGraphicFramePr><xdr:xfrm/><a:graphic><a:graphicData>"
        '<c:chart r:id="rId1"/></a:graphicData></a:graphic></xdr:graphicFrame>',
    }[kind]
    place = "<xdr:col>1</xdr:col><xdr:colOff>0</xdr:colOff><xdr:row>1</xdr:row><xdr:rowOff>0</xdr:rowOff>"
    anchor = (
        f"<xdr:oneCellAnchor><xdr:from>{place}</xdr:from><xdr:ext cx='1' cy='1'/>{shown}<xdr:clientData/>"
        "</xdr:oneCellAnchor>"
    )
    drawing = (
        f'<xdr:wsDr xmlns:xdr="{DRAWN}/spreadsheetDrawing" xmlns:a="{DRAWN}/main" xmlns:c="{DRAWN}/chart" '
        f'xmlns:r="{OFFICE}">{anchor * places}</xdr:wsDr>'
    )
    relation = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Type="{}/{}" Target="{}"/></Relationships>'
    )
    drawn = f'<drawing xmlns:r="{OFFICE}" r:id="rId1"/></worksheet>'.encode()
    members = parts(right())
    return packed(
        members
        | {
            SHEET: members[SHEET].replace(b"</worksheet>", drawn),
            "xl/worksheets/_rels/sheet1.xml.rels": relation.format(OFFICE, "drawing", "../drawings/a.xml"),
            "xl/drawings/a.xml": drawing,
            "xl/drawings/_rels/a.xml.rels": relation.format(OFFICE, kind, f"../{part}"),
            f"xl/{part}": content,
        }
    )


def of_macro_type():
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    return edited("[Content_Types].xml", kind, "application/vnd.ms-excel.sheet.macroEnabled.main+xml")


def of_another_size():
    size = len(parts(right())[SHEET])
    return right().replace(struct.pack("<I", size), struct.pack("<I", size // 2))


def ods(*, styles="", inside="", in_cell="", after=""):
    """A wrong table as an .ods file, with more XML in several places."""
    rows = []
    for number, row in enumerate(TABLE):
        cells = [ods_text(cell) if isinstance(cell, str) else ods_number(cell) for cell in row]
        if number == 3:
            cells[20] = ods_number(9, inside=in_cell)
        rows.append(f"<table:table-row>{''.join(cells)}</table:table-row>")
    spaces = "".join(f' xmlns:{name}="{OASIS}{space}"' for name, space in _SPACES.items())
    content = (
        f'<office:document-content{spaces} office:version="1.2" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"<office:automatic-styles>{styles}</office:automatic-styles><office:body><office:spreadsheet>"
        f'<table:table table:name="a">{inside}{"".join(rows)}</table:table>{after}'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    return packed({"mimetype": _ODS, "content.xml": content, "META-INF/manifest.xml": _MANIFEST})


def ods_number(value, more="", inside=""):
    kind = f'office:value-type="float" office:value="{value}"{more}'
    return f"<table:table-cell {kind}>{inside}</table:table-cell>"


def ods_text(text):
    return f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'


OASIS = "urn:oasis:names:tc:opendocument:xmlns:"
_SPACES = {
    **{name: f"{name}:1.0" for name in ("office", "table", "text", "style", "form")},
    "draw": "drawing:1.0",
    "x": "drawing:1.0",
    "svg": "svg-compatible:1.0",
    "of": "of:1.2",
}
_ODS = "application/vnd.oasis.opendocument.spreadsheet"
_MANIFEST = (
    f'<manifest:manifest xmlns:manifest="{OASIS}manifest:1.0" manifest:version="1.2">'
    f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{_ODS}"/><manifest:file-entry '
    'manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>'
)
_LINK = 'xlink:href="{}" xlink:type="simple" xlink:show="embed" xlink:actuate="onLoad"'
_SIZE = 'svg:width="5cm" svg:height="5cm" svg:x="0cm" svg:y="0cm"'
FOLLOWED = {
    # what of an .ods file LibreOffice follows: where in ods() it stands, and how it is written
    "a picture": (
        "inside",
        f"<table:shapes><draw:frame {_SIZE}><draw:image {_LINK}/></draw:frame></table:shapes>",
    ),
    **{
        f"{kind} in a cell": ("in_cell", f"<draw:frame {_SIZE}><draw:{kind} {_LINK}/></draw:frame>")
        for kind in ("image", "object", "object-ole", "plugin", "floating-frame")
    },
    "another prefix": ("in_cell", f"<x:frame {_SIZE}><x:image {_LINK}/></x:frame>"),
    "a linked area": (
        "in_cell",
        f'<table:cell-range-source table:name="Sheet1" table:filter-name="calc8" {_LINK} '
        'table:last-column-spanned="1" table:last-row-spanned="1"/>',
    ),
    "a background": (
        "styles",
        '<style:style style:name="b" style:family="table-cell"><style:table-cell-properties>'
        f"<style:background-image {_LINK}/></style:table-cell-properties></style:style>",
    ),
    "a filling": (
        "styles",
        f'<draw:fill-image draw:name="f" {_LINK}/><style:style style:name="g" style:family="graphic">'
        '<style:graphic-properties draw:fill="bitmap" draw:fill-image-name="f"/></style:style>',
    ),
    "a form": (
        "inside",
        f'<office:forms><form:form form:name="f" {_LINK}><form:image form:id="i" form:image-data="{{}}"/>'
        f'</form:form></office:forms><table:shapes><draw:control draw:control="i" {_SIZE}/></table:shapes>',
    ),
    "a link": ("in_cell", f"<text:p><text:a {_LINK}>9</text:a></text:p>"),
}


def following(*addresses, what=tuple(FOLLOWED)):
    """An .ods file that holds those of FOLLOWED, for each of the addresses."""
    parts_of: dict[str, str] = {}
    for place, written in map(FOLLOWED.__getitem__, what):
        for address in addresses:
            parts_of[place] = parts_of.get(place, "") + written.replace("{}", address)
    return ods(**parts_of)


def ods_formula(text):
    return repeated(ods_number(1, f" table:formula={quoteattr(text)}"))


EXTERNAL = ' TargetMode="External"'
ELSEWHERE = "contains links to other files"
OBJECTS = "contains embedded objects"
NO_XLSX = "is not an .xlsx file inside"
XLSX = {
    # what it is: (how to make it, what is said of it)
    "right": (right, RIGHT),
    "bomb": (lambda: with_part("xl/media/a.xml", b"\0" * 60 * 2**20), "too large when unpacked (60 MB"),
    "bomb in the sheet": (lambda: with_sheet(" " * 60 * 2**20), "too large when unpacked"),
    "nested archive": (lambda: with_part("xl/media/a.zip", packed({"b": b"\0" * 2**26})), RIGHT),
    "sizes that lie": (lying, NO_TABLE),
    "sizes that lie of a theme": (lambda: lying("xl/theme/theme1.xml"), RIGHT),
    "a directory with another size": (of_another_size, DAMAGED),
    "thousands of parts": (lambda: packed(parts(right()) | {f"part{n}": "" for n in range(5000)}), "in 50"),
    "overlapping parts": (overlapping, DAMAGED),
    "two parts of a name": (twice_named, "two parts have the same name"),
    "LZMA": (lambda: packed(parts(right()), zipfile.ZIP_LZMA), "in a way that .xlsx files are not"),
    "many sheets of one part": (shared_sheet, LARGE),
    "a picture in many places": (shared_picture, LARGE),
    "a picture in two places": (lambda: shared_picture(2), RIGHT),
    "a chart in many places": (shared_chart, LARGE),
    "a chart in two places": (lambda: shared_chart(2), RIGHT),
    "dimension of all": (lambda: edited(SHEET, 'ref="A1:AE7"', 'ref="A1:XFD1048576"'), RIGHT),
    "the last corner": (lambda: with_row(1048576, '<c r="XFD1048576"><v>1</v></c>'), RIGHT),
    "beyond the last row": (lambda: with_cell('<c r="A1048577"><v>1</v></c>'), DAMAGED),
    "row minus one": (lambda: with_sheet('<row r="-1"><c><v>1</v></c></row>'), DAMAGED),
    "millions of rows": (lambda: with_sheet("<row/>" * 1_200_000), LARGE),
    "millions of cells": (lambda: with_sheet("<row>" + "<c/>" * 1_200_000 + "</row>"), LARGE),
    "millions of values": (lambda: with_sheet(f"<row><c>{'<v/>' * 1_200_000}</c></row>"), LARGE),
    "strings of 60 MB": (lambda: with_part(STRINGS, strings(f"<si><t>{'a' * 60 * 2**20}</t></si>")), LARGE),
    "millions of strings": (lambda: with_part(STRINGS, strings("<si/>" * 1_200_000)), LARGE),
    "a long string in many cells": (long_string_in_many_cells, NO_TABLE),
    "billion laughs": (lambda: with_part(SHEET, LAUGHS), ENTITIES),
    "billion laughs in styles": (lambda: with_part("xl/styles.xml", LAUGHS), ENTITIES),
    "billion laughs in an image": (lambda: with_part("xl/media/image1.png", LAUGHS), ENTITIES),
    "billion laughs in UTF-16": (lambda: with_part(SHEET, LAUGHS.encode("utf-16")), ENTITIES),
    "an external entity": (lambda: with_part(STRINGS, OUTSIDE), ENTITIES),
    "deep nesting": (lambda: with_sheet("<row>" * 10**5 + "</row>" * 10**5), "elements within each other"),
    "a merge of the whole sheet": (lambda: merged("A1:XFD1048576"), LARGE),
    "merged columns": (lambda: merged("A:XFD"), LARGE),
    "many merges": (many_merges, LARGE),
    "a link over the whole sheet": (lambda: linked("A1:XFD1048576"), LARGE),
    "many conditional formats": (many_conditional_formats, LARGE),
    "many ranges": (lambda: after_table(f'<conditionalFormatting sqref="{"A1 " * 10**6}"/>'), LARGE),
    "many styles": (lambda: edited("xl/styles.xml", "</cellXfs>", "<xf/>" * 10**6 + "</cellXfs>"), LARGE),
    "a number format": (lambda: after_table(f'<numFmt formatCode="{"[" * 10**6}"/>'), LARGE),
    "many attributes": (many_attributes, LARGE),
    "a long sheet name": (lambda: edited(BOOK, 'name="Sheet1"', f'name="{"1" * 10**6}x"'), LARGE),
    "an external link": (lambda: with_part("xl/externalLinks/externalLink1.xml", "<a/>"), RIGHT),
    "a relation outside": (lambda: with_relation("oddity", "file:///etc/passwd", EXTERNAL), ELSEWHERE),
    "a picture from elsewhere": (lambda: with_relation("image", "http://x/a.png", EXTERNAL), ELSEWHERE),
    "a link to click on": (lambda: with_relation("hyperlink", "http://x/", EXTERNAL), RIGHT),
    "a connection": (lambda: with_part("xl/connections.xml", "<a/>"), "connections to data elsewhere"),
    "an embedded object": (lambda: with_part("xl/embeddings/oleObject1.bin", OLE), OBJECTS),
    "ActiveX": (lambda: with_part("xl/activeX/activeX1.xml", "<ocx/>"), OBJECTS),
    "macros inside": (lambda: with_part("xl/vbaProject.bin", OLE), "contains macros"),
    "macros under another name": (lambda: with_relation("vbaProject", "theme.bin"), "contains macros"),
    "macros of Excel 4": (lambda: with_part("xl/macrosheets/sheet1.xml", "<a/>"), "contains macros"),
    "a macro file renamed": (of_macro_type, "contains macros"),
    "WEBSERVICE": (lambda: with_formula('_xlfn.WEBSERVICE("ht"&"tp://x")'), REACHES),
    "HYPERLINK": (lambda: with_formula('HYPERLINK("http://127.0.0.1/","x")'), REACHES),
    "DDE": (lambda: with_formula('DDE("cmd";"/C calc";"A0")'), REACHES),
    "cmd": (lambda: with_formula("cmd|' /C calc'!A0"), REACHES),
    "a cell of another file": (lambda: with_formula("'[1]Sheet 1'!A1"), REACHES),
    "a name that reaches out": (lambda: with_name("[1]S!A1"), REACHES),
    "INDIRECT with a value": (lambda: with_formula('INDIRECT("A1")'), RIGHT),
    "INDIRECT without": (lambda: with_cell('<c r="A99"><f>INDIRECT("A1")</f></c>'), "INDIRECT may refer to"),
    "OFFSET": (lambda: with_formula("OFFSET(A1,1,1)+Table1[[#This Row],[w1]]*Sheet1!A1"), RIGHT),
    "a long formula": (lambda: with_formula("1" * 9000), "a formula of 9000 letters"),
    "a long shared formula": (long_shared_formula, LARGE),
    "a password": (lambda: OLE + "EncryptedPackage".encode("utf-16-le"), "protected by a password"),
    "xls": (lambda: OLE, "old .xls format"),
    "ods": (lambda: packed({"mimetype": _ODS, "content.xml": "<a/>"}), NO_XLSX),
    "HTML": (lambda: b"<html><table><tr><td>w1</td></tr></table></html>", NO_XLSX),
    "empty": (lambda: b"", "is empty"),
    "cut": (lambda: right()[:3000], DAMAGED),
    "a number beyond all": (lambda: with_cell('<c r="A99"><v>1e999</v></c>'), RIGHT),
    "nan": (lambda: with_cell('<c r="A99"><v>nan</v></c>'), DAMAGED),
    "a number of 5,000 digits": (lambda: with_cell(f'<c r="A99"><v>{"9" * 5000}</v></c>'), DAMAGED),
    "a number of 4,000 digits": (lambda: with_cell(f'<c r="A99"><v>{"9" * 4000}</v></c>'), DAMAGED),
    "an error of 4,000 digits": (error_of_4000_digits, DAMAGED),
    "text as a number": (lambda: with_cell('<c r="A99"><v>one</v></c>'), DAMAGED),
    "a string that is not there": (lambda: with_cell('<c r="A99" t="s"><v>99</v></c>'), DAMAGED),
}

CSV = {
    "right": (csv_table, RIGHT),
    "NUL bytes": (lambda: csv_table(value="\0"), "is not a text file inside"),
    "UTF-16": (lambda: csv_table().decode().encode("utf-16"), RIGHT),
    "half of UTF-16": (lambda: b"\xff\xfe" + csv_table(), RIGHT),
    "a lone quote": (lambda: b'"' + csv_table(), NO_TABLE),
    "a long line": (lambda: b"w" * 2**24, DAMAGED),
    "many columns": (lambda: b"," * 2**24, "16384 columns"),
    "many cells": (lambda: b"1,1,1,1\n" * 200_000, "at most 400000 cells"),
    "many tables": (lambda: (csv_table() + b"\n") * 110, "more than 100 tables"),
    "1e999": (lambda: csv_table(value="1e999"), "value        inf"),
    "-1e999": (lambda: csv_table(value="-1e999"), "value        -inf"),
    "nan in a cell": (lambda: csv_table(value="nan"), "the cell shows nan, not a number"),
    "inf in a cell": (lambda: csv_table(value="inf"), "the cell shows inf, not a number"),
    "nan as a start weight": (lambda: csv_table(1, COLUMNS.index("w2"), "nan"), "F2, w2"),
    "inf as a start weight": (lambda: csv_table(1, COLUMNS.index("w2"), "1e999"), "F2, w2"),
    "an exponent beyond Decimal's": (lambda: csv_table(value="1e-99999999999999999999"), "WRONG"),
    "many digits": (lambda: csv_table(value="0." + "1" * 100_000), "WRONG"),
    "a date": (lambda: csv_table(value="2024-01-01"), "the cell shows 2024-01-01"),
    "an error": (lambda: csv_table(value="#REF!"), "the cell shows #REF!"),
    "a boolean": (lambda: csv_table(value="TRUE"), "the cell shows TRUE"),
    "a formula as text": (lambda: csv_table(value="=1+1"), "the cell shows =1+1"),
    "a steering text": (lambda: csv_table(value="\x1b[2J\x9b2J"), "the cell shows ?[2J?2J"),
    "a blank cell": (lambda: csv_table(value=""), "U4 is blank: not checked"),
    "an archive": (right, "is not a text file inside"),
    "spaces": (lambda: b" \n\t", "is empty"),
}


def repeated(cells, rows=1):
    return ods(
        after=f'<table:table table:name="b"><table:table-row table:number-rows-repeated="{rows}">{cells}'
        "</table:table-row></table:table>"
    )


ODS = {
    "repeated rows": (lambda: repeated(ods_number(1), 10**6), LARGE),
    "repeated columns": (lambda: repeated(ods_number(1, ' table:number-columns-repeated="9999999"')), LARGE),
    "repeated texts": (lambda: repeated(ods_text("a" * 10**6), 1000), LARGE),
    "many sheets": (
        lambda: ods(after='<table:table table:name="b"/>' * 2000),
        "contains more than 1000 sheets",
    ),
    "deep nesting": (lambda: ods(inside="<text:p>" * 200 + "</text:p>" * 200), "elements within each other"),
    "billion laughs": (lambda: packed({"content.xml": LAUGHS}), ENTITIES),
    "WEBSERVICE": (lambda: ods_formula('of:=COM.MICROSOFT.WEBSERVICE("ht"&"tp:/"&"/x")'), REACHES),
    "INDIRECT": (lambda: ods_formula("of:=INDIRECT('fi'&'le:///a.ods#$b.A1')"), "contains INDIRECT"),
    "a cell elsewhere": (lambda: ods_formula("of:=['file:///a.ods'#$b.A1]"), ELSEWHERE),
    "a cell of a relative file": (lambda: ods_formula("of:=['a.ods'#b.A1]"), ELSEWHERE),
    "a cell behind a quotation mark": (
        lambda: ods_formula("""of:=['x"y'.A1]+['a.ods'#b.A1]&"" """),
        ELSEWHERE,
    ),
    "DDE": (lambda: ods_formula('of:=DDE("soffice";"/a.ods";"b.A1")'), REACHES),
    "a linked sheet": (lambda: ods(inside="<table:table-source/>"), ELSEWHERE),
    "a listener": (lambda: ods(inside="<x:event-listener/>"), ELSEWHERE),
}
