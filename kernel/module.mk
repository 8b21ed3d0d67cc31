# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
# For the Makefile of a module, which sets MODULE, the name of its folder, and
# HEADERS, those of other folders.
#
# The kernel's build system writes beside sources, so that each kernel version
# gets a copy of them.
KVERSION ?= $(shell uname -r)
KDIR ?= /lib/modules/$(KVERSION)/build
BUILD ?= build/$(KVERSION)
SOURCES := $(wildcard *.[ch] $(HEADERS))
COPIES := $(addprefix $(BUILD)/,$(patsubst ../%,%,$(filter ../%,$(SOURCES))) \
	$(addprefix $(MODULE)/,$(filter-out ../%,$(SOURCES)))) $(BUILD)/$(MODULE)/Kbuild

modules sparse: $(COPIES)
	$(MAKE) -C $(KDIR) M=$(abspath $(BUILD))/$(MODULE) $(if $(filter sparse,$@),C=2 CF=-D__CHECK_ENDIAN__) modules

$(BUILD)/$(MODULE)/%: %
	@mkdir -p $(@D) && cp $< $@

$(BUILD)/%: ../%
	@mkdir -p $(@D) && cp $< $@

clean:
	rm -rf build

.PHONY: modules sparse clean
