// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "run.h"

#define SYSTEM_FOLDER "/run/isthmus-natbinder"
#define FOLDER "isthmus-natbinder"
#define NAME "ask.sock"

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, code;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	code = errno;
	close(fd);
	return -code;
}

/* Who holds a folder decides who is asked, and is shown sockets. */
static bool is_trusted(const char *folder)
{
	struct stat stat;

	if (lstat(folder, &stat) || !S_ISDIR(stat.st_mode))
		return false;
	return (stat.st_uid == 0 || stat.st_uid == geteuid()) &&
	       !(stat.st_mode & 022);
}

static int connect_in(const char *folder)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int size = snprintf(path, sizeof(path), "%s/" NAME, folder);

	if (size < 0 || (size_t)size >= sizeof(path))
		return -ENAMETOOLONG;
	return is_trusted(folder) ? connect_to(path) : -ENOENT;
}

int connect_daemon(const char *path)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;

	if (path != NULL)
		return connect_to(path);
	/* Made by systemd for the service, whoever that runs as. */
	fd = connect_to(SYSTEM_FOLDER "/" NAME);
	if (fd >= 0)
		return fd;
	if (runtime != NULL && *runtime != '\0')
		snprintf(folder, sizeof(folder), "%s/" FOLDER, runtime);
	else
		snprintf(folder, sizeof(folder), "/tmp/" FOLDER "-%u",
			 geteuid());
	return connect_in(folder);
}
